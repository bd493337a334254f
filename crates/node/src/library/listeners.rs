//! Services that are part of the program.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cloak_wire::{Balance, Code, Target};
use tokio::sync::mpsc;

use super::APPLICATION;
use super::stream::{Stream, pipe};
use crate::api::{Application, Backend, BoxFuture, Incoming, Movable, ServiceTable};
use crate::sync::lock;

/// Sessions that wait to be accepted at one port; more are answered [`Code::Busy`].
const BACKLOG: usize = 128;

/// The services of a program: the [`ServiceTable`] to start a node with.
#[derive(Default)]
pub struct Listeners(Mutex<BTreeMap<u16, Service>>);

type Admit = Arc<dyn Fn(&Incoming) -> bool + Send + Sync>;

struct Service {
    admit: Admit,
    movable: Movable,
    balance: Balance,
    arrivals: mpsc::Sender<Arrival>,
}

/// A port at which sessions arrive. Dropping it closes the port; sessions that were accepted go on.
#[derive(Debug)]
pub struct Listener {
    arrivals: mpsc::Receiver<Arrival>,
}

/// A session that arrived.
#[derive(Debug)]
pub struct Arrival {
    /// Its stream.
    pub stream: Stream,
    /// Who asked for it.
    pub from: Incoming,
    /// What the program left behind that had the session before, on this device or another; nothing for a
    /// new session.
    pub state: Option<Vec<u8>>,
}

/// A port that cannot be listened at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Ports are 1 to 65535.
    #[error("a service's port must be 1 to 65535")]
    PortZero,
    /// Somebody listens there.
    #[error("somebody listens at this port already")]
    Taken,
}

impl Listeners {
    /// Listens at `port` for sessions of those whom `admit` admits; it is asked again at every resume.
    /// A node that runs already has to be told, by [`Node::reload`](crate::Node::reload).
    ///
    /// # Errors
    /// The port is zero, or taken.
    pub fn listen(
        &self,
        port: u16,
        admit: impl Fn(&Incoming) -> bool + Send + Sync + 'static,
    ) -> Result<Listener, ListenError> {
        self.add(port, Arc::new(admit), Movable::No, Balance::None)
    }

    /// The same for a service whose sessions may move between the devices of the entity that expose it: a
    /// program that is [asked](super::Signals::asked_to_leave) leaves its state, and gets that of others with
    /// what [arrives](Arrival::state).
    ///
    /// # Errors
    /// The port is zero, or taken.
    pub fn listen_movable(
        &self,
        port: u16,
        admit: impl Fn(&Incoming) -> bool + Send + Sync + 'static,
    ) -> Result<Listener, ListenError> {
        self.listen_balanced(port, Balance::None, admit)
    }

    /// The same for a service whose sessions move by themselves as well, between the devices on which it says
    /// so.
    ///
    /// # Errors
    /// The port is zero, or taken.
    pub fn listen_balanced(
        &self,
        port: u16,
        balance: Balance,
        admit: impl Fn(&Incoming) -> bool + Send + Sync + 'static,
    ) -> Result<Listener, ListenError> {
        self.add(port, Arc::new(admit), Movable::Always, balance)
    }

    fn add(
        &self,
        port: u16,
        admit: Admit,
        movable: Movable,
        balance: Balance,
    ) -> Result<Listener, ListenError> {
        if port == 0 {
            return Err(ListenError::PortZero);
        }
        let services = &mut *lock(&self.0);
        services.retain(|_, service| !service.arrivals.is_closed());
        if services.contains_key(&port) {
            return Err(ListenError::Taken);
        }
        let (sender, arrivals) = mpsc::channel(BACKLOG);
        services.insert(port, Service { admit, movable, balance, arrivals: sender });
        Ok(Listener { arrivals })
    }

    fn arrive(&self, from: Incoming, state: Option<Vec<u8>>) -> Result<Backend, Code> {
        self.authorise(&from)?;
        let Target::Service(port) = from.target else { return Err(Code::NoService) };
        let arrivals = {
            let services = lock(&self.0);
            services.get(&port).ok_or(Code::NoService)?.arrivals.clone()
        };
        let (stream, application) = pipe();
        arrivals.try_send(Arrival { stream, from, state }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Code::Busy,
            mpsc::error::TrySendError::Closed(_) => Code::BackendRefused,
        })?;
        Ok((Box::new(application) as Box<dyn Application>, APPLICATION.to_owned()))
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Listeners").field(&self.ports()).finish()
    }
}

impl ServiceTable for Listeners {
    fn authorise(&self, incoming: &Incoming) -> Result<(), Code> {
        let Target::Service(port) = incoming.target else { return Err(Code::NoService) };
        let admit = {
            let services = lock(&self.0);
            Arc::clone(&services.get(&port).ok_or(Code::NoService)?.admit)
        };
        admit(incoming).then_some(()).ok_or(Code::NotAllowed)
    }

    fn connect(&self, incoming: Incoming) -> BoxFuture<'_, Result<Backend, Code>> {
        Box::pin(std::future::ready(self.arrive(incoming, None)))
    }

    fn take_over(
        &self,
        incoming: Incoming,
        state: Vec<u8>,
    ) -> BoxFuture<'_, Result<Backend, Code>> {
        Box::pin(std::future::ready(self.arrive(incoming, Some(state))))
    }

    fn movable(&self, target: &Target) -> Movable {
        let Target::Service(port) = target else { return Movable::No };
        lock(&self.0).get(port).map_or(Movable::No, |service| service.movable)
    }

    fn balance(&self, target: &Target) -> Balance {
        let Target::Service(port) = target else { return Balance::None };
        lock(&self.0).get(port).map_or(Balance::None, |service| service.balance)
    }

    fn ports(&self) -> Vec<u16> {
        lock(&self.0).keys().copied().collect()
    }
}

impl Listener {
    /// The next session; nothing once the node is gone.
    ///
    /// # Cancel safety
    /// None is lost.
    pub async fn accept(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }
}
