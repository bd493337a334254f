//! The exit: connections of peers to the ordinary Internet, made from here.
//!
//! A peer names a host and a port. Its name is resolved here, and the addresses that are checked
//! are the very ones that are connected to: nothing is resolved twice.

mod public;

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use cloak_base::EntityId;
use cloak_node::{Code, Incoming};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::public::{OwnNetworks, is_public};
use crate::config::ExitConfig;
use crate::destination::{Aliases, Destination};
use crate::outbound::direct;

impl ExitConfig {
    /// Whether anybody may leave here.
    pub(crate) fn is_offered(&self) -> bool {
        !self.allow.is_empty()
    }

    /// Whether this peer may leave here, to a host of this name.
    ///
    /// # Errors
    /// [`Code::NotAllowed`]; [`Code::BadName`] of what no resolver should see.
    pub(crate) fn admit(&self, incoming: &Incoming, host: &str) -> Result<(), Code> {
        if !self.allow.iter().any(|rule| rule.admits(incoming)) {
            return Err(Code::NotAllowed);
        }
        ordinary(host, 0).map(|_| ())
    }

    /// Connects to a host that a peer names.
    ///
    /// # Errors
    /// As [`ExitConfig::admit`], or what the connection fails with; [`Code::NotAllowed`] where all
    /// addresses are private, [`Code::Busy`] with too many attempts under way.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the connection. A lookup ends by itself, and counts until then.
    pub(crate) async fn connect(
        &self,
        openings: &Arc<Openings>,
        entity: EntityId,
        host: &str,
        port: u16,
    ) -> Result<TcpStream, Code> {
        let destination = ordinary(host, port)?;
        let opening = Arc::new(Openings::begin(openings, entity)?);
        let mut addresses = addresses(destination, Arc::clone(&opening)).await?;
        if !self.private {
            let own = OwnNetworks::read().map_err(|_| Code::Busy)?;
            addresses.retain(|address| is_public(address.ip()) && !own.contain(address.ip()));
        }
        if addresses.is_empty() {
            return Err(Code::NotAllowed);
        }
        direct::connect_to(addresses).await
    }
}

/// A host as a peer wrote it; no Cloak name leads out of an exit.
fn ordinary(host: &str, port: u16) -> Result<Destination, Code> {
    match Destination::parse(host, port, &Aliases::default())? {
        Destination::Cloak { .. } => Err(Code::NotAllowed),
        ordinary => Ok(ordinary),
    }
}

/// All addresses of a destination. The lookup cannot be cancelled, so it holds its place itself.
async fn addresses(
    destination: Destination,
    opening: Arc<Opening>,
) -> Result<Vec<SocketAddr>, Code> {
    let (name, port) = match destination {
        Destination::Name { name, port } => (name, port),
        literal => return direct::addresses(&literal).await,
    };
    let lookup = spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        drop(opening);
        found
    });
    let found = timeout(direct::LOOKUP_TIMEOUT, lookup).await.map_err(|_| Code::Timeout)?;
    direct::in_turns(found.ok().and_then(Result::ok).ok_or(Code::HostUnreachable)?)
}

/// Attempts under way, by entity: lookups occupy threads, and one peer must not take them all.
#[derive(Debug, Default)]
pub(crate) struct Openings(Mutex<HashMap<EntityId, usize>>);

/// One of them.
struct Opening {
    openings: Arc<Openings>,
    entity: EntityId,
}

impl Openings {
    fn begin(openings: &Arc<Self>, entity: EntityId) -> Result<Opening, Code> {
        let mut counts = openings.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.get(&entity).copied().unwrap_or(0);
        if own == OPENINGS_OF_ENTITY_MAX || counts.values().sum::<usize>() == OPENINGS_MAX {
            return Err(Code::Busy);
        }
        counts.insert(entity, own + 1);
        Ok(Opening { openings: Arc::clone(openings), entity })
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut counts = self.openings.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.entity) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.entity);
            }
        }
    }
}

/// Attempts under way at a time: half of the threads that tokio has for lookups and files.
const OPENINGS_MAX: usize = 256;
/// Those of one entity.
const OPENINGS_OF_ENTITY_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_until_they_are_over() {
        let openings = Arc::new(Openings::default());
        let begin = |entity: u8| Openings::begin(&openings, EntityId::from_bytes([entity; 32]));
        let mut all: Vec<Opening> =
            (0..OPENINGS_OF_ENTITY_MAX).map(|_| begin(1).unwrap()).collect();
        assert_eq!(begin(1).err(), Some(Code::Busy), "one entity has its share");
        for entity in 2..=4 {
            all.extend((0..OPENINGS_OF_ENTITY_MAX).map(|_| begin(entity).unwrap()));
        }
        assert_eq!(begin(5).err(), Some(Code::Busy), "and all have theirs");
        all.truncate(1);
        assert!(begin(5).is_ok());
        drop(all);
        assert!(openings.0.lock().unwrap().is_empty(), "nothing is kept of who is done");
    }
}
