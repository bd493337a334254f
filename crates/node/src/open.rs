//! Opens sessions for the proxy: name to device, device to lane, `Open` to `Opened`.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::{DeviceId, SessionId};
use cloak_session::{FirstBytes, Role, Session};
use cloak_wire::{Code, Early, Secret, Target};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use crate::Node;
use crate::api::{Application, BoxFuture, EXIT_PORT, Incoming, OpenRequest, OpenedSession, Opener};
use crate::driver::{Driver, Source};
use crate::peer::Peer;
use crate::registry::SessionHandle;
use crate::shared::Shared;

/// A peer to which no lane could be had for this long is unreachable. Two patient dials fit in.
const LANE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an exit may take to resolve a name and to connect, once there is a lane to it.
const EXIT_TIMEOUT: Duration = Duration::from_secs(30);
/// A device other than the last candidate gets this long before the next is tried.
const CANDIDATE_TIMEOUT: Duration = Duration::from_secs(3);

impl Opener for Node {
    fn open(&self, request: OpenRequest) -> BoxFuture<'_, Result<Box<dyn OpenedSession>, Code>> {
        Box::pin(open(Arc::clone(&self.0), request))
    }
}

async fn open(shared: Arc<Shared>, request: OpenRequest) -> Result<Box<dyn OpenedSession>, Code> {
    let port = match &request.target {
        Target::Service(port) => *port,
        Target::Host(..) => EXIT_PORT,
    };
    let mut candidates = shared.candidates(&request.name, port).await?;
    if matches!(request.target, Target::Host(..)) && candidates.len() > 1 {
        // An exit that stays where it is was meant, if there is one.
        candidates.retain(|device| *device != shared.tls.device());
    }
    let last = candidates.len() - 1;
    for (index, device) in candidates.into_iter().enumerate() {
        let candidate = Candidate { device, is_last: index == last };
        match open_at(&shared, candidate, &request).await {
            Err(Code::PeerUnreachable) if index < last => {}
            result => return result,
        }
    }
    Err(Code::PeerUnreachable)
}

/// A device that may have the service.
#[derive(Clone, Copy)]
struct Candidate {
    device: DeviceId,
    /// There is no other to try after it.
    is_last: bool,
}

async fn open_at(
    shared: &Arc<Shared>,
    candidate: Candidate,
    request: &OpenRequest,
) -> Result<Box<dyn OpenedSession>, Code> {
    let Candidate { device, is_last } = candidate;
    if device == shared.tls.device() {
        return open_here(shared, request).await;
    }
    if shared.is_draining() {
        return Err(Code::ShuttingDown);
    }
    shared.own_standing()?;
    if !shared.ledger.admits_new_session() {
        return Err(Code::Busy);
    }
    let peer = shared.peer(device);
    // What goes with `Open` has been said, and is not said to another device as well.
    let first = if is_last { FirstBytes::WithOpen } else { FirstBytes::OnceOpened };
    let (opening, mut opened) = Opening::start(shared, &peer, request, first)?;
    let patience = if is_last { LANE_TIMEOUT } else { CANDIDATE_TIMEOUT };
    let mut answer = tokio::time::timeout(patience, &mut opened).await;
    if answer.is_err() && is_at_exit(&opening.handle) {
        answer = tokio::time::timeout(EXIT_TIMEOUT, &mut opened).await;
    }
    let result = match answer {
        Err(_) => {
            // An answer that comes now finds nobody, and ends the session before it says anything.
            opened.close();
            let unanswered = match opening.handle.snapshot().and_then(|snapshot| snapshot.lane) {
                None => Code::PeerUnreachable,
                Some(_) => Code::Timeout,
            };
            opened.try_recv().unwrap_or(Err(unanswered))
        }
        Ok(result) => result.unwrap_or(Err(Code::ShuttingDown)),
    };
    result.map(|()| Box::new(opening) as Box<dyn OpenedSession>)
}

/// Whether an exit may have been asked.
fn is_at_exit(handle: &SessionHandle) -> bool {
    let has_lane = || handle.snapshot().is_some_and(|snapshot| snapshot.lane.is_some());
    matches!(handle.target, Target::Host(..)) && has_lane()
}

/// A session that is opening or open, and has no application yet. Dropping it ends the session.
struct Opening {
    handle: Arc<SessionHandle>,
    attach: oneshot::Sender<Box<dyn Application>>,
}

impl Opening {
    fn start(
        shared: &Arc<Shared>,
        peer: &Arc<Peer>,
        request: &OpenRequest,
        first: FirstBytes,
    ) -> Result<(Self, oneshot::Receiver<Result<(), Code>>), Code> {
        let id = SessionId::from_bytes(shared.random_bytes());
        let target = request.target.clone();
        let (handle, inbox) = SessionHandle::new(
            id,
            Role::Initiator,
            Arc::clone(peer),
            target.clone(),
            shared.clock.wall(),
            request.application.clone(),
        );
        let max = crate::sync::read(&shared.config).session.sessions_max;
        shared.sessions.insert(Arc::clone(&handle), max).map_err(|_| Code::Busy)?;
        let session = Session::initiate(
            shared.clock.now(),
            shared.session_config(),
            id,
            Secret(shared.random_bytes::<32>().into()),
            target,
            shared.ledger.account(peer.device()),
            shared.split_rng(),
        )
        .saying(&request.early, first);
        let (answer, opened) = oneshot::channel();
        let (attach, attached) = oneshot::channel();
        let source = Source::Proxy { opened: Some(answer), attach: attached };
        let driver = Driver::new(Arc::clone(shared), Arc::clone(&handle), session, source, inbox);
        shared.tasks.spawn(driver.run());
        Ok((Self { handle, attach }, opened))
    }
}

impl OpenedSession for Opening {
    fn attach(self: Box<Self>, application: Box<dyn Application>) {
        // The session may have ended meanwhile: then its application ends as well.
        if let Err(application) = self.attach.send(application) {
            application.reset();
        }
    }
}

/// A service of this very device: no session is needed.
async fn open_here(
    shared: &Arc<Shared>,
    request: &OpenRequest,
) -> Result<Box<dyn OpenedSession>, Code> {
    let incoming = Incoming {
        peer: shared.home.entity_name(),
        entity: shared.home.entity(),
        device: shared.tls.device(),
        target: request.target.clone(),
    };
    shared.authorise(&incoming)?;
    let (backend, _) = shared.services.connect(incoming).await?;
    Ok(Box::new(Here { shared: Arc::clone(shared), backend, early: request.early.clone() }))
}

struct Here {
    shared: Arc<Shared>,
    backend: Box<dyn Application>,
    early: Early,
}

impl OpenedSession for Here {
    fn attach(self: Box<Self>, mut application: Box<dyn Application>) {
        let Self { shared, mut backend, early } = *self;
        let cancel = shared.cancel.clone();
        application.refuse_wishes();
        backend.refuse_wishes();
        shared.tasks.spawn(async move {
            let copying = async {
                backend.write_all(&early).await?;
                tokio::io::copy_bidirectional(&mut application, &mut backend).await
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                copied = copying => {
                    if copied.is_err() {
                        application.reset();
                        backend.reset();
                    }
                }
            }
        });
    }
}

impl Shared {
    /// What each session is told of the settings.
    pub(crate) fn session_config(&self) -> cloak_session::Config {
        let session = &crate::sync::read(&self.config).session;
        cloak_session::Config {
            linger: session.linger,
            buffer_max: session.buffer_max.0,
            ..cloak_session::Config::default()
        }
    }

    /// Ends sessions that may no longer go on, after rules or revocations changed.
    pub(crate) fn reauthorise_all(&self) {
        for handle in self.sessions.all() {
            if let Err(code) = self.reauthorise(&handle) {
                handle.close(code);
            }
        }
    }
}
