//! Has another device of our entity keep a copy of an end of ours, and brings it up to date.
//!
//! A task of each session owns the lane to the holder. The session's own task gives it a batch at a time,
//! and hears through its inbox that the holder has it.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_identity::Name;
use cloak_session::{Batch, News};
use cloak_wire::{Capsule, Code, Deposit, Frame};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::hello::{flush, receive};
use crate::lane::Lane;
use crate::registry::{Command, Lodged, SessionHandle};
use crate::shared::Shared;

/// How long the holder may take to answer, and each piece to be written. Until then the session waits.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(5);

/// One attempt to have a session's end kept.
pub(crate) struct Lodging {
    pub(crate) handle: Arc<SessionHandle>,
    /// Its number: what an earlier one says does not count any more.
    pub(crate) attempt: u64,
    /// The holder's label.
    pub(crate) label: Arc<str>,
    /// Ends when the copy is worth nothing any more.
    pub(crate) batches: mpsc::Receiver<Batch>,
}

impl Shared {
    /// Runs until the copy is worth nothing any more, or its holder is lost.
    pub(crate) async fn lodge(self: Arc<Self>, mut lodging: Lodging) {
        let cancel = self.cancel.clone();
        let lodged = tokio::select! {
            biased;
            // The holder keeps what it has.
            () = cancel.cancelled() => return,
            lodged = self.keep_up(&mut lodging) => lodged,
        };
        if let Err(code) = lodged {
            self.tell(&lodging, Lodged::Lost(code)).await;
        }
    }

    async fn keep_up(self: &Arc<Self>, lodging: &mut Lodging) -> Result<(), Code> {
        let holder = self.peer(self.holder(&lodging.label).await?);
        let mut lane = self.courier(&holder).await?;
        self.standing(&holder)?;
        // The copy is made now, and not before there is a way to its holder.
        self.tell(lodging, Lodged::Found(holder.device())).await;
        let Some(Batch { number, news: News::Copy(capsule), bytes }) = lodging.batches.recv().await
        else {
            self.release(lane);
            return Ok(());
        };
        let dismissed = holder.dismissal();
        let deposit = self.deposit(&lodging.handle, *capsule, bytes.len());
        lane.connection.queue(&Frame::Deposit(Box::new(deposit)));
        match answer(&mut lane).await? {
            Frame::Answer { code: None } => {}
            Frame::Answer { code: Some(code) } => {
                self.release(lane);
                return Err(code);
            }
            _ => return Err(Code::Violation),
        }
        self.hand_in(&mut lane, lodging, number, &bytes).await?;
        loop {
            let batch = tokio::select! {
                biased;
                // A holder that was revoked gets nothing more.
                () = dismissed.cancelled() => return Err(Code::Revoked),
                batch = lodging.batches.recv() => batch,
                // It has nothing to say but that it gives up.
                said = receive(&mut lane.connection) => return Err(match said {
                    Ok(Frame::Close { code }) => code,
                    Ok(_) => Code::Violation,
                    Err(_) => Code::PeerUnreachable,
                }),
            };
            let Some(Batch { number, news, bytes }) = batch else { break };
            let News::Mark(mark) = news else { return Err(Code::Violation) };
            lane.connection.queue(&Frame::Mark(mark));
            self.hand_in(&mut lane, lodging, number, &bytes).await?;
        }
        lane.connection.queue(&Frame::Void);
        if let Ok(Ok(())) = timeout(HOLDER_TIMEOUT, flush(&mut lane.connection)).await {
            self.release(lane);
        }
        Ok(())
    }

    /// The device of ours with this label.
    async fn holder(self: &Arc<Self>, label: &str) -> Result<DeviceId, Code> {
        let name = format!("{label}.{}", self.home.entity_name());
        let name = Name::parse(&name).map_err(|_| Code::BadName)?;
        let found = self.resolve(&name).await?.devices;
        let holder = found.first().ok_or(Code::UnknownName)?;
        if holder.device == self.tls.device() {
            Err(Code::NotMovable)
        } else if holder.entity != self.home.entity() {
            Err(Code::NotAllowed)
        } else {
            Ok(holder.device)
        }
    }

    fn deposit(&self, handle: &SessionHandle, capsule: Capsule, bytes: usize) -> Deposit {
        let peer = handle.peer().device();
        Deposit {
            capsule,
            bytes: bytes as u64,
            peer,
            record: self.directory.record_of(peer).map(Into::into),
            opened_at: handle.opened_at,
        }
    }

    /// Sends the bytes of a batch, and waits until the holder has it.
    async fn hand_in(
        &self,
        lane: &mut Lane,
        lodging: &Lodging,
        number: u64,
        mut bytes: &[u8],
    ) -> Result<(), Code> {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(lane.connection.room().max(1)));
            lane.connection.queue_data(piece);
            bytes = rest;
            let flushed = timeout(HOLDER_TIMEOUT, flush(&mut lane.connection)).await;
            flushed.map_err(|_| Code::Timeout)?.map_err(|_| Code::PeerUnreachable)?;
        }
        match answer(lane).await? {
            Frame::Kept => {
                self.tell(lodging, Lodged::Kept(number)).await;
                Ok(())
            }
            _ => Err(Code::Violation),
        }
    }

    async fn tell(&self, lodging: &Lodging, lodged: Lodged) {
        // Where nobody hears it, the session is over.
        let _ = lodging.handle.order(Command::Lodged(lodging.attempt, lodged)).await;
    }
}

/// What the holder says.
async fn answer(lane: &mut Lane) -> Result<Frame, Code> {
    let said = timeout(HOLDER_TIMEOUT, receive(&mut lane.connection)).await;
    match said.map_err(|_| Code::Timeout)? {
        Ok(Frame::Close { code }) => Err(code),
        Ok(frame) => Ok(frame),
        Err(_) => Err(Code::PeerUnreachable),
    }
}
