//! What an operator asks for: move a session, hold it, give it an application.

use std::sync::Arc;

use cloak_base::{DeviceId, SessionId};
use cloak_identity::Name;
use cloak_session::State;
use cloak_wire::{Balance, Code};
use tokio::sync::oneshot;

use crate::Node;
use crate::api::Application;
use crate::node::ControlError;
use crate::registry::{AttachError, Attaching, Command, SessionHandle, Standing};
use crate::view::{HeldView, SessionState, SessionView};

use super::OfferView;

impl Node {
    /// Hands our end of a session, whose id begins with `prefix`, over to another device: one of our
    /// entity by its label, any by its name. Another entity is asked first, for ten minutes at most. Returns
    /// once that device has the session.
    ///
    /// # Errors
    /// No such session or device, or why the session stays here.
    ///
    /// # Cancel safety
    /// Dropping the future takes back an offer that nobody has answered; after that it does not stop the
    /// move.
    pub async fn move_session(&self, prefix: &str, to: &str) -> Result<(), ControlError> {
        let handle = self.find_session(prefix)?;
        let destination = self.destination(to).await?;
        let (shared, moving) = (Arc::clone(&self.0), Arc::clone(&handle));
        if let Destination::Foreign(device) = destination {
            let offered = shared.offer(&handle, device).await;
            offered.map_err(|code| declined(to, handle.id, code))?;
        }
        let moved = self.0.tasks.spawn(async move {
            let (Destination::Ours(device) | Destination::Foreign(device)) = destination;
            shared.hand_over(&moving, device, Balance::None).await
        });
        moved.await.unwrap_or(Err(Code::ShuttingDown)).map_err(|code| stays(handle.id, code))
    }

    /// Takes a session away from its application, which sees the end of its stream, and keeps it for
    /// another one.
    ///
    /// # Errors
    /// No such session, or it has no application that could go.
    pub async fn hold_session(&self, prefix: &str) -> Result<(), ControlError> {
        let handle = self.find_session(prefix)?;
        let (done, held) = oneshot::channel();
        let ordered = handle.order(Command::Hold(done)).await;
        let held = ordered.and(held.await.unwrap_or(Err(Code::Gone)));
        held.map_err(|code| match code {
            Code::NotMovable => ControlError::Failed(format!(
                "session {} has no application to part with: it is being opened, or is held already",
                handle.id.fmt_short()
            )),
            code => stays(handle.id, code),
        })
    }

    /// Gives a session that is held an application; `name` is what `sessions` calls it. It goes on from the
    /// offset `from`, see [`HeldView`], or else where the application before stopped reading, as far as that is known.
    /// Gives the state that that one left behind; empty where it left none.
    ///
    /// # Errors
    /// No such session, it has an application, or what follows that offset is not there any more; the application
    /// given is ended then.
    pub async fn attach_session(
        &self,
        prefix: &str,
        application: Box<dyn Application>,
        name: &str,
        from: Option<u64>,
    ) -> Result<Vec<u8>, ControlError> {
        let handle = self.find_session(prefix)?;
        let (done, attached) = oneshot::channel();
        let attaching = Attaching { application, name: name.to_owned(), from, done };
        let ordered = handle.order(Command::Attach(attaching)).await;
        ordered.map_err(|_| not_held(&handle))?;
        match attached.await.unwrap_or(Err(AttachError::NotHeld)) {
            Ok(left) => Ok(left),
            Err(AttachError::NotHeld) => Err(not_held(&handle)),
            Err(AttachError::OutOfRange(standing)) => Err(out_of_range(&handle, &standing)),
        }
    }

    /// Sees to it that a session waits for an application here: fetches it from another device of our
    /// entity where it is there, unless the application is to go on from an offset: only what was not read
    /// comes along. Says where it goes on.
    ///
    /// # Errors
    /// No such session, it has an application here, it cannot go on from the offset `from`, or why the other device
    /// keeps it.
    pub async fn await_application(
        &self,
        prefix: &str,
        from: Option<u64>,
    ) -> Result<HeldView, ControlError> {
        let handle = match self.find_session(prefix) {
            Err(ControlError::NotFound(_)) if !prefix.is_empty() && from.is_some() => {
                return Err(not_here(prefix));
            }
            Err(ControlError::NotFound(_)) if !prefix.is_empty() => {
                self.fetch_session(prefix).await?;
                self.find_session(prefix)?
            }
            found => found?,
        };
        if handle.snapshot().is_some_and(|snapshot| snapshot.state == State::Held) {
            // It was taken from a copy, and its other end has not agreed yet.
            return Err(not_taken(handle.id, Code::PeerUnreachable));
        }
        let (done, standing) = oneshot::channel();
        let ordered = handle.order(Command::Standing(done)).await;
        ordered.map_err(|_| not_held(&handle))?;
        let standing = standing.await.ok().flatten().ok_or_else(|| not_held(&handle))?;
        if standing.back_to(from).is_none() {
            return Err(out_of_range(&handle, &standing));
        }
        Ok(HeldView {
            id: handle.id.to_string(),
            from: from.unwrap_or(standing.from),
            earliest: standing.earliest,
            latest: standing.latest,
            unread: standing.not_read,
        })
    }

    /// `cloak sessions --entity`: ours, then those that the other devices of our entity have, as far as
    /// they can be reached.
    pub async fn entity_sessions(&self) -> Vec<SessionView> {
        let elsewhere = self.0.held_elsewhere().await;
        let mut ours = self.sessions();
        // Another device lists those that went to it.
        ours.retain(|row| row.state != SessionState::Moved);
        let elsewhere = elsewhere.into_iter().map(|(_, row)| row);
        let mut rows: Vec<_> = ours.into_iter().chain(elsewhere).collect();
        // Whose owner answers is there already.
        let mut kept = self.0.kept_views();
        kept.retain(|copy| rows.iter().all(|row| row.id != copy.id));
        rows.append(&mut kept);
        rows
    }

    async fn fetch_session(&self, prefix: &str) -> Result<(), ControlError> {
        let mut found = self.0.held_elsewhere().await;
        found.retain(|(_, row)| row.id.starts_with(prefix));
        let mut kept = self.0.kept_views();
        kept.retain(|copy| {
            copy.id.starts_with(prefix) && found.iter().all(|row| row.1.id != copy.id)
        });
        if let ([], [copy]) = (&found[..], &kept[..]) {
            return self.take_kept(&copy.id).await;
        }
        let [(device, row)] = &found[..] else {
            return Err(ControlError::NotFound(match found.len() + kept.len() {
                0 => format!("no session {prefix}, neither here nor on your other devices"),
                several => format!("{several} sessions begin with {prefix}; give more digits"),
            }));
        };
        let id = row.id.parse().map_err(|_| ControlError::Failed("a session without id".into()))?;
        let (shared, device) = (Arc::clone(&self.0), *device);
        let fetching = self.0.tasks.spawn(async move { shared.fetch(device, id).await });
        fetching.await.unwrap_or(Err(Code::ShuttingDown)).map_err(|code| stays(id, code))
    }

    /// Takes a session of which a copy is kept here, and whose own device is not to be reached.
    async fn take_kept(&self, id: &str) -> Result<(), ControlError> {
        let id = id.parse().map_err(|_| ControlError::Failed("a session without id".into()))?;
        let shared = Arc::clone(&self.0);
        let taking = self.0.tasks.spawn(async move { shared.take_kept(id).await });
        taking.await.unwrap_or(Err(Code::ShuttingDown)).map_err(|code| not_taken(id, code))
    }

    /// The live session whose id begins with `prefix`, when there is exactly one.
    pub(crate) fn find_session(&self, prefix: &str) -> Result<Arc<SessionHandle>, ControlError> {
        if prefix.is_empty() {
            return Err(ControlError::NotFound("no session given".to_owned()));
        }
        let mut found = self.0.sessions.find(prefix);
        match found.len() {
            0 => Err(ControlError::NotFound(match self.0.sessions.went_to(prefix) {
                Some(device) => format!("no session {prefix} here: it moved to {device}"),
                None => format!("no session {prefix}"),
            })),
            1 => Ok(found.remove(0)),
            several => Err(ControlError::NotFound(format!(
                "{several} sessions begin with {prefix}; give more digits"
            ))),
        }
    }

    /// The sessions that others offer us.
    pub fn offers(&self) -> Vec<OfferView> {
        self.0.offers.views()
    }

    /// Takes a session that is offered, whose id begins with `prefix`; returns once it is here. Gives its
    /// whole id.
    ///
    /// # Errors
    /// No such offer, or why the session does not come.
    pub async fn accept_offer(&self, prefix: &str) -> Result<String, ControlError> {
        let session = self.find_offer(prefix)?;
        let accepted = self.0.offers.accept(session).await;
        accepted.map_err(|code| {
            ControlError::Failed(format!("session {} does not come: {code}", session.fmt_short()))
        })?;
        Ok(session.to_string())
    }

    /// Declines a session that is offered.
    ///
    /// # Errors
    /// No such offer.
    pub fn refuse_offer(&self, prefix: &str) -> Result<String, ControlError> {
        let session = self.find_offer(prefix)?;
        self.0.offers.refuse(session);
        Ok(session.to_string())
    }

    fn find_offer(&self, prefix: &str) -> Result<SessionId, ControlError> {
        match self.0.offers.find(prefix)[..] {
            _ if prefix.is_empty() => Err(ControlError::NotFound("no session given".to_owned())),
            [session] => Ok(session),
            [] => Err(ControlError::NotFound(format!("no session {prefix} is offered"))),
            _ => Err(ControlError::NotFound(format!(
                "several sessions on offer begin with {prefix}; give more digits"
            ))),
        }
    }

    /// Where a session is to go: to a device of ours by its label or name, or to somebody else by name.
    async fn destination(&self, text: &str) -> Result<Destination, ControlError> {
        let shared = &self.0;
        let entity = shared.home.entity_name();
        let full = if text.contains('.') { text.to_owned() } else { format!("{text}.{entity}") };
        let name = Name::parse(&full)
            .map_err(|error| ControlError::NotFound(format!("\"{text}\" is no device: {error}")))?;
        let unknown = |code| {
            let why = format!("{full} is not known ({code}): see `cloak device list`");
            ControlError::NotFound(why)
        };
        let own = shared.tls.device();
        let mut found = shared.resolve(&name).await.map_err(unknown)?.devices;
        found.retain(|candidate| candidate.device != own);
        let is_linked = |device| shared.known_peer(device).is_some_and(|peer| peer.is_linked());
        found.sort_by_key(|candidate| !is_linked(candidate.device));
        let first = found.first().ok_or_else(|| {
            ControlError::Failed(format!("{full} is this device: the session is here already"))
        })?;
        let is_ours = first.entity == shared.home.entity();
        let device = first.device;
        Ok(if is_ours { Destination::Ours(device) } else { Destination::Foreign(device) })
    }
}

/// A device that is to have a session.
#[derive(Debug, Clone, Copy)]
enum Destination {
    Ours(DeviceId),
    /// One of another entity, which has to want it.
    Foreign(DeviceId),
}

fn declined(to: &str, session: SessionId, code: Code) -> ControlError {
    let why = match code {
        Code::NotAllowed => format!("{to} does not want it"),
        Code::Timeout => format!("{to} did not answer within ten minutes"),
        Code::Busy => format!("{to} has too many offers open"),
        Code::PeerUnreachable => format!("{to} cannot be reached"),
        code => format!("{to} could not be asked ({code})"),
    };
    let id = session.fmt_short();
    ControlError::Failed(format!("session {id} stays where it is: {why}"))
}

/// Why a session did not move, for people.
pub(super) fn stays(session: SessionId, code: Code) -> ControlError {
    let why = match code {
        Code::PeerUnreachable => {
            "the other end, or the device it was to go to, cannot be reached; try again later"
        }
        Code::NotMovable => {
            "it is not open at both ends, its other end is on that device, or its application or service \
             does not go"
        }
        Code::Moving => {
            "a move of it is under way, and where it goes is for the other end to say as soon as it \
             can be reached"
        }
        Code::Paused => "its other end has suspended it, and is not asked until it resumes",
        Code::Gone => "it ended meanwhile",
        Code::NotAllowed => "the other end does not admit that device",
        Code::NoService | Code::BackendRefused => "its service is not to be had on that device",
        Code::Busy => "that device has no room for it at the moment",
        Code::Timeout => "that device took too long to take it over",
        _ => "it was refused",
    };
    let id = session.fmt_short();
    ControlError::Failed(format!("session {id} stays where it is: {why} ({code})"))
}

/// Why a session of which a copy is kept here cannot go on here, for people.
fn not_taken(session: SessionId, code: Code) -> ControlError {
    let why = match code {
        Code::PeerUnreachable | Code::Timeout => {
            "its other end has not answered yet; this device goes on asking, try again in a while"
        }
        Code::Gone | Code::Superseded | Code::Moved => {
            "its other end does not give it to this device: it ended, or is elsewhere by now"
        }
        _ => "it was refused",
    };
    let id = session.fmt_short();
    ControlError::Failed(format!("session {id} cannot go on here: {why} ({code})"))
}

fn not_held(handle: &SessionHandle) -> ControlError {
    let id = handle.id.fmt_short();
    ControlError::Failed(format!(
        "session {id} has an application: take it away first, with `cloak sessions hold {id}`"
    ))
}

fn not_here(prefix: &str) -> ControlError {
    ControlError::NotFound(format!(
        "no session {prefix} on this device: one of another device goes on where its program stopped reading, \
         and only where it is held can it go on from an offset"
    ))
}

fn out_of_range(handle: &SessionHandle, standing: &Standing) -> ControlError {
    let (id, Standing { earliest, latest, .. }) = (handle.id.fmt_short(), standing);
    ControlError::Failed(format!(
        "session {id} goes on from an offset from {earliest} to {latest}: nothing below is kept ([session] tail), \
         and nothing above has been given to a program"
    ))
}
