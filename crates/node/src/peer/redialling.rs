//! The retries of an outage, as a future of the peer's task.

use std::sync::Arc;

use cloak_base::DeviceId;
use cloak_transport::{Connection, Redial};
use tokio_util::sync::CancellationToken;

use crate::api::BoxFuture;
use crate::shared::Shared;

/// The retries of an outage. What they know of the path outlives each outage.
pub(super) enum Redialling {
    Idle(Box<Redial>),
    Running(BoxFuture<'static, (Box<Redial>, Option<Connection>)>, CancellationToken),
    /// Between the two.
    Moving,
}

impl Redialling {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(..))
    }

    /// Starts the retries, unless they run.
    pub(super) fn start(&mut self, shared: &Arc<Shared>, device: DeviceId) {
        *self = match std::mem::replace(self, Self::Moving) {
            Self::Idle(mut redial) => {
                let (shared, stop) = (Arc::clone(shared), CancellationToken::new());
                let stopped = stop.clone();
                let running = Box::pin(async move {
                    let connection = tokio::select! {
                        biased;
                        () = stopped.cancelled() => None,
                        connection = redial.next(|| shared.locators_of(device)) => Some(connection),
                    };
                    (redial, connection)
                });
                Self::Running(running, stop)
            }
            other => other,
        };
    }

    /// Ends the retries: there is another path.
    pub(super) fn stop(&self) {
        if let Self::Running(_, stop) = self {
            stop.cancel();
        }
    }

    /// The connection that ends the outage; none when the retries were stopped.
    pub(super) async fn connection(&mut self) -> Option<Connection> {
        let Self::Running(running, _) = self else { return std::future::pending().await };
        let (redial, connection) = running.await;
        *self = Self::Idle(redial);
        connection
    }
}
