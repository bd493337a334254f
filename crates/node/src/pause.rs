//! Sessions that an operator suspends on purpose, and resumes.

use cloak_base::SessionId;
use cloak_wire::Code;
use tokio::sync::oneshot;

use crate::Node;
use crate::api::{Wish, Wished};
use crate::node::ControlError;
use crate::registry::Command;

impl Node {
    /// Suspends a session, whose id begins with `prefix`, until it is resumed: it needs no lane meanwhile,
    /// at both ends.
    ///
    /// # Errors
    /// No such session, or it is not open, or about to move.
    pub async fn suspend_session(&self, prefix: &str) -> Result<(), ControlError> {
        self.wish(prefix, Wished::Suspend).await
    }

    /// Goes on with a session that was suspended here; returns before there is a lane. Does nothing with one that
    /// was not.
    ///
    /// # Errors
    /// No such session, or only its other end has suspended it.
    pub async fn resume_session(&self, prefix: &str) -> Result<(), ControlError> {
        self.wish(prefix, Wished::Resume).await
    }

    async fn wish(&self, prefix: &str, what: Wished) -> Result<(), ControlError> {
        let handle = self.find_session(prefix)?;
        let (answer, granted) = oneshot::channel();
        handle
            .order(Command::Wish(Wish { what, answer }))
            .await
            .and(granted.await.unwrap_or(Err(Code::Gone)))
            .map_err(|code| refused(handle.id, code))
    }
}

fn refused(session: SessionId, code: Code) -> ControlError {
    let why = match code {
        Code::Paused => {
            "cannot be resumed here: its other end has suspended it, and goes on when it is resumed there"
        }
        Code::Moving => "is not suspended: it is about to move to another device",
        Code::NotMovable => "is not suspended: it is being opened, or is about to end",
        _ => "has ended meanwhile",
    };
    ControlError::Failed(format!("session {} {why} ({code})", session.fmt_short()))
}
