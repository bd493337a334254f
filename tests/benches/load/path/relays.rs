//! The yardstick: a plain TCP relay with a buffer of 256 KiB per direction, and two in a row.

use std::net::SocketAddr;

use cloak_tests::client;
use tokio::net::TcpStream;

use super::{Path, RELAYS};
use crate::child::{Child, Role};

const BUFFER: usize = 256 * 1024;

/// Two relays, the first leading to the second and that to the server.
#[derive(Debug)]
pub(crate) struct Relays {
    near: Child,
    far: Child,
}

impl Relays {
    pub(crate) fn before(server: SocketAddr) -> Self {
        let far = Child::start(Role::Relay, Some(server));
        Self { near: Child::start(Role::Relay, Some(far.address())), far }
    }
}

impl Path for Relays {
    fn name(&self) -> &'static str {
        RELAYS
    }

    fn dial(&self) -> std::net::TcpStream {
        client::dial(self.near.address()).expect("the relay listens")
    }

    fn ends(&self) -> Vec<u32> {
        vec![self.near.id(), self.far.id()]
    }
}

/// The relay's side.
pub(crate) async fn serve(mut near: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut far = TcpStream::connect(target).await?;
    far.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
    Ok(())
}
