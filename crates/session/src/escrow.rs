//! The holder's side of an escrow: a copy of an end that is on another device, kept up to date.

use cloak_base::SessionId;
use cloak_wire::{Capsule, Mark, Received};

use crate::error::CapsuleError;
use crate::send::Send;
use crate::session::{OFFSET_MAX, check_capsule};
use crate::{Config, Memory};

/// A copy of an end, see [`Session::begin_escrow`](crate::Session::begin_escrow).
#[derive(Debug)]
pub struct Kept {
    capsule: Capsule,
    send: Send,
    /// What the other end may have been given credit for, beyond what was delivered.
    promised: u64,
    buffer_max: u64,
    memory: Memory,
}

impl Kept {
    /// Keeps a copy, with the bytes that the other end has not acknowledged.
    ///
    /// # Errors
    /// The capsule contradicts itself or what is allowed here: it could not be adopted.
    pub fn new(
        config: &Config,
        capsule: Capsule,
        bytes: &[u8],
        memory: Memory,
    ) -> Result<Self, CapsuleError> {
        let promised = check_capsule(config, &capsule, bytes)?;
        let mut send = Send::new(0, config.buffer_start, config.buffer_max);
        send.unpack(&memory, &capsule.sent, bytes)?;
        check_end(&capsule.received)?;
        let buffer_max = config.buffer_max;
        Ok(Self { capsule, send, promised, buffer_max, memory })
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.capsule.session
    }

    /// The copy as it is, without its bytes.
    pub fn capsule(&self) -> &Capsule {
        &self.capsule
    }

    /// Bytes that are kept.
    pub fn held(&self) -> u64 {
        self.send.held()
    }

    /// Brings the copy up to date.
    ///
    /// # Errors
    /// The mark contradicts itself, or what came before, or there are more bytes than may be kept. The
    /// copy is of no use then.
    pub fn update(&mut self, mark: &Mark, bytes: &[u8]) -> Result<(), CapsuleError> {
        let Mark { acked, fin, delivered, peer_fin, .. } = *mark;
        let before = self.capsule.received;
        let ended = before.fin.is_some_and(|known| peer_fin != Some(known));
        if delivered < before.delivered || delivered > OFFSET_MAX || ended {
            return Err(CapsuleError::Offsets);
        }
        let received = Received { delivered, credit: delivered + self.promised, fin: peer_fin };
        check_end(&received)?;
        self.send.follow(&self.memory, acked, fin, bytes)?;
        if self.send.held() > self.buffer_max {
            return Err(CapsuleError::TooLarge);
        }
        (self.capsule.sent, self.capsule.received) = (self.send.standing(), received);
        Ok(())
    }

    /// What [`Session::adopt`](crate::Session::adopt) continues.
    pub fn into_parts(self) -> (Capsule, Vec<u8>) {
        let (_, bytes) = self.send.pack();
        (self.capsule, bytes)
    }
}

/// The end of the stream is known only where all before it was delivered.
fn check_end(received: &Received) -> Result<(), CapsuleError> {
    let Received { delivered, fin, .. } = *received;
    let is_there = fin.is_none_or(|fin| fin == delivered || fin.checked_add(1) == Some(delivered));
    if is_there { Ok(()) } else { Err(CapsuleError::Offsets) }
}
