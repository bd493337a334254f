//! What the other devices of our entity hold, and how it is fetched from them.
//!
//! Asked on lanes, like sessions, so that it works wherever a session would.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::{DeviceId, SessionId};
use cloak_identity::Name;
use cloak_wire::{Balance, CONTROL_MAX, Code, Frame};
use minicbor::bytes::ByteVec;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::SEND_TIMEOUT;
use crate::hello::{flush, receive};
use crate::lane::Lane;
use crate::peer::Peer;
use crate::shared::Shared;
use crate::sync::read;
use crate::view::{SessionState, SessionView};

/// Time for a device to say what it holds.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// Sessions of one device that are listed.
const LISTED_MAX: usize = 1024;
/// Bytes of rows in a frame, so that it fits whatever the last one adds.
const ROWS_BYTES: usize = CONTROL_MAX / 2;

impl Shared {
    /// The sessions that the other devices of our entity hold, with the device's id, as far as they
    /// answer and let us know.
    pub(crate) async fn held_elsewhere(self: &Arc<Self>) -> Vec<(DeviceId, SessionView)> {
        let Ok(name) = Name::parse(&self.home.entity_name()) else { return Vec::new() };
        let devices = self.resolve(&name).await.map(|found| found.devices).unwrap_or_default();
        let mut asking = JoinSet::new();
        for candidate in devices {
            if candidate.device != self.tls.device() {
                let shared = Arc::clone(self);
                asking.spawn(async move {
                    let asked = timeout(LIST_TIMEOUT, shared.ask_sessions(candidate.device)).await;
                    let rows = asked.ok().and_then(Result::ok).unwrap_or_default();
                    let name = candidate.name;
                    rows.into_iter().map(move |row| {
                        (candidate.device, SessionView { device: Some(name.clone()), ..row })
                    })
                });
            }
        }
        let mut all: Vec<_> = asking.join_all().await.into_iter().flatten().collect();
        all.sort_by(|(_, a), (_, b)| {
            (&a.device, &a.opened_at, &a.id).cmp(&(&b.device, &b.opened_at, &b.id))
        });
        all
    }

    async fn ask_sessions(self: &Arc<Self>, device: DeviceId) -> Result<Vec<SessionView>, Code> {
        let mut lane = self.courier(&self.peer(device)).await?;
        lane.connection.queue(&Frame::AskSessions);
        let mut all = Vec::new();
        loop {
            match receive(&mut lane.connection).await {
                Ok(Frame::Sessions { rows }) if rows.is_empty() => break,
                Ok(Frame::Sessions { rows }) if all.len() < LISTED_MAX => {
                    all.extend(rows.iter().filter_map(|row| serde_json::from_slice(row).ok()));
                }
                Ok(Frame::Close { code }) => return Err(code),
                _ => return Err(Code::Violation),
            }
        }
        self.release(lane);
        Ok(all)
    }

    /// Has another device of ours hand a session over to us.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        device: DeviceId,
        session: SessionId,
    ) -> Result<(), Code> {
        let mut lane = self.courier(&self.peer(device)).await?;
        lane.connection.queue(&Frame::Fetch { session });
        let answer = timeout(SEND_TIMEOUT * 2, receive(&mut lane.connection)).await;
        match answer.map_err(|_| Code::Timeout)? {
            Ok(Frame::Answer { code }) => {
                self.release(lane);
                code.map_or(Ok(()), Err)
            }
            Ok(Frame::Close { code }) => Err(code),
            Ok(_) => Err(Code::Violation),
            Err(_) => Err(Code::PeerUnreachable),
        }
    }

    /// Answers a device that asks what we hold; the lane is free again then.
    pub(crate) async fn tell_sessions(&self, mut lane: Lane) -> Option<Lane> {
        let rows = if self.lets_fetch(&lane.peer).is_ok() { self.rows() } else { Vec::new() };
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next_if(|row| bytes == 0 || bytes + row.len() <= ROWS_BYTES)
            {
                bytes += row.len();
                some.push(row);
            }
            lane.connection.queue(&Frame::Sessions { rows: some });
            timeout(LIST_TIMEOUT, flush(&mut lane.connection)).await.ok()?.ok()?;
        }
        lane.connection.queue(&Frame::Sessions { rows: Vec::new() });
        flush(&mut lane.connection).await.ok()?;
        Some(lane)
    }

    fn rows(&self) -> Vec<ByteVec> {
        let mut views = self.session_views();
        views.retain(|view| !matches!(view.state, SessionState::Lost | SessionState::Moved));
        let json = views.iter().take(LISTED_MAX).filter_map(|view| serde_json::to_vec(view).ok());
        json.filter(|row| row.len() <= ROWS_BYTES).map(ByteVec::from).collect()
    }

    /// Hands a session over to the device that asks for it, and says what came of it.
    pub(crate) async fn give_session(
        self: &Arc<Self>,
        mut lane: Lane,
        session: SessionId,
    ) -> Option<Lane> {
        let given = match self.lets_fetch(&lane.peer) {
            Err(code) => Err(code),
            Ok(()) => {
                let found = self.sessions.all().into_iter().find(|handle| handle.id == session);
                match found {
                    None => Err(Code::Gone),
                    Some(handle) => {
                        // A move that has begun comes to its end, whatever becomes of who asked for it.
                        let (shared, to) = (Arc::clone(self), lane.peer.device());
                        let moving =
                            async move { shared.hand_over(&handle, to, Balance::None).await };
                        self.tasks.spawn(moving).await.unwrap_or(Err(Code::ShuttingDown))
                    }
                }
            }
        };
        lane.connection.queue(&Frame::Answer { code: given.err() });
        flush(&mut lane.connection).await.ok()?;
        Some(lane)
    }

    /// Whether a peer may see and fetch our sessions: a device of our entity, if the settings say so.
    fn lets_fetch(&self, peer: &Peer) -> Result<(), Code> {
        self.standing(peer)?;
        let ours = peer.entity() == Some(self.home.entity());
        let may = ours && read(&self.config).session.fetch;
        if may { Ok(()) } else { Err(Code::NotAllowed) }
    }
}
