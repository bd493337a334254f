//! What a connection becomes after a CONNECT or an upgrade: a plain stream of bytes.

use bytes::BytesMut;
use cloak_node::Application;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tracing::debug;

use super::gate::Gate;
use crate::ingress::{Ingress, Opened};
use crate::stream::{Client, Prefixed};

/// A tunnel whose answer is being written.
pub(super) enum Tunnel {
    /// CONNECT: the session, or ordinary connection, was opened for the application alone.
    Connect { client: OnUpgrade, opened: Opened },
    /// A protocol that both ends switched to.
    Upgrade { client: OnUpgrade, upstream: OnUpgrade },
}

impl Tunnel {
    /// Carries bytes until both directions have ended.
    pub(super) async fn run(self, ingress: &Ingress) {
        match self {
            Self::Connect { client, opened } => {
                if let Some(client) = application(client).await {
                    ingress.carry(opened, client).await;
                }
            }
            Self::Upgrade { client, upstream } => {
                let (client, upstream) = (application(client).await, other_end(upstream).await);
                if let (Some(client), Some(upstream)) = (client, upstream) {
                    ingress.relay(client, upstream).await;
                }
            }
        }
    }
}

/// The application's socket, with the bytes that came before the answer.
async fn application(upgrade: OnUpgrade) -> Option<Prefixed<Client>> {
    let parts = upgraded(upgrade).await?.downcast::<TokioIo<Gate>>().ok()?;
    let mut client = parts.io.into_inner().into_client();
    if !parts.read_buf.is_empty() {
        let mut early = BytesMut::from(&parts.read_buf[..]);
        early.extend_from_slice(&client.early);
        client.early = early;
    }
    Some(client)
}

/// The upstream's stream, with the bytes that came with its answer.
async fn other_end(upgrade: OnUpgrade) -> Option<Prefixed<Box<dyn Application>>> {
    let parts = upgraded(upgrade).await?.downcast::<TokioIo<Box<dyn Application>>>().ok()?;
    let early = BytesMut::from(&parts.read_buf[..]);
    Some(Prefixed { early, inner: parts.io.into_inner() })
}

/// hyper has ended its part already, so there is nothing to wait for but its own bookkeeping.
async fn upgraded(upgrade: OnUpgrade) -> Option<Upgraded> {
    match timeout(BOOKKEEPING, upgrade).await {
        Ok(Ok(upgraded)) => Some(upgraded),
        Ok(Err(error)) => {
            debug!(%error, "upgrade");
            None
        }
        Err(_) => None,
    }
}

const BOOKKEEPING: std::time::Duration = std::time::Duration::from_secs(5);
