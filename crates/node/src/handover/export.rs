//! Sessions as bytes: a program takes them along over its own restart.
//!
//! An exported session is one that was handed over to this very device, and has not arrived. The other end
//! waits for it as for any other.

use std::sync::Arc;

use cloak_wire::{Balance, Code, HandOver};
use minicbor::bytes::ByteVec;
use tokio::time::timeout;

use super::{Left, TAKE_TIMEOUT, TAKEN_WITHIN, stays_where_it_is};
use crate::Node;
use crate::node::ControlError;
use crate::registry::{Command, SessionHandle};
use crate::shared::Shared;

/// First of the bytes, so that another program's or a later version's are told apart.
const MAGIC: &[u8] = b"cloak session 1\n";

impl Node {
    /// Takes a session whose id begins with `prefix` out of this node, as bytes for
    /// [`import_session`](Self::import_session) on the same device, in this run of the program or a later one.
    /// Its application is asked to leave, or sees the end of its stream. Meanwhile the session is suspended
    /// at the other end, for `linger` at most. The bytes are a secret, and count once.
    ///
    /// # Errors
    /// No such session, or why it stays here.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the export, and the session is lost with its bytes.
    pub async fn export_session(&self, prefix: &str) -> Result<Vec<u8>, ControlError> {
        let handle = self.find_session(prefix)?;
        let (shared, exported) = (Arc::clone(&self.0), Arc::clone(&handle));
        let exporting = self.0.tasks.spawn(async move { shared.export(&exported).await });
        let bytes = exporting.await.unwrap_or(Err(Code::ShuttingDown));
        bytes.map_err(|code| stays_where_it_is(handle.id, code))
    }

    /// Brings back a session that was exported on this device; it is held until it is
    /// [attached](Self::attach) to. Gives its id.
    ///
    /// # Errors
    /// These are not such bytes, they were imported before, or the other end does not have the session any
    /// more.
    pub async fn import_session(&self, bytes: &[u8]) -> Result<String, ControlError> {
        let foreign = || ControlError::Failed("these bytes are no exported session".to_owned());
        let body = bytes.strip_prefix(MAGIC).ok_or_else(foreign)?;
        let (hand_over, parts): (HandOver, [ByteVec; 3]) =
            minicbor::decode(body).map_err(|_| foreign())?;
        let session = hand_over.capsule.session;
        let failed = |code| {
            let id = session.fmt_short();
            ControlError::Failed(format!("session {id} does not come back: {code}"))
        };
        self.0.import(&hand_over, parts).await.map_err(failed)?;
        Ok(session.to_string())
    }
}

impl Shared {
    async fn export(self: &Arc<Self>, handle: &Arc<SessionHandle>) -> Result<Vec<u8>, Code> {
        let packed = self.pack(handle, self.tls.device()).await?;
        let generation = packed.capsule.generation;
        let (hand_over, parts) = self.wrap(handle, packed, Balance::None);
        let mut bytes = MAGIC.to_vec();
        let body = (hand_over, parts.map(ByteVec::from));
        minicbor::encode(body, &mut bytes).expect("invariant: encoding into memory cannot fail");
        handle.order(Command::LetGo(generation)).await?;
        Ok(bytes)
    }

    async fn import(
        self: &Arc<Self>,
        hand_over: &HandOver,
        parts: [ByteVec; 3],
    ) -> Result<(), Code> {
        let _place = self.admit_news(hand_over)?;
        let [bytes, unread, state] = parts.map(Vec::from);
        let left = Left { unread, state, not_read: hand_over.not_read };
        let taking = self.take_end(hand_over, &bytes, left, TAKEN_WITHIN);
        timeout(TAKE_TIMEOUT, taking).await.unwrap_or(Err(Code::Timeout))
    }
}
