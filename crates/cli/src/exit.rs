//! Exit codes, in one place, and the failure that carries one.

use std::fmt;
use std::process::ExitCode;

/// What a command's end says to scripts. Success is the absence of a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It could not be done.
    Failed = 1,
    /// Wrong usage or configuration; nothing was tried.
    Usage = 2,
    /// The command needs a running gateway.
    NotRunning = 3,
    /// The name, session or device is not there.
    NotFound = 4,
}

impl Exit {
    /// The exit that has this code; anything unknown is a plain failure.
    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            2 => Self::Usage,
            3 => Self::NotRunning,
            4 => Self::NotFound,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked: one clear sentence and the exit code for it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code.
    pub(crate) exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// A failure with its exit code.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }
}

/// The sentence, and after it those of its causes that it does not tell already.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if !told.contains(&cause) {
                told.push_str(if told.is_empty() { "" } else { ": " });
                told.push_str(&cause);
            }
        }
        f.write_str(&told)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        for (exit, code) in
            [(Exit::Failed, 1), (Exit::Usage, 2), (Exit::NotRunning, 3), (Exit::NotFound, 4)]
        {
            assert_eq!(exit as u8, code);
            assert_eq!(Exit::from_code(code), exit);
        }
        assert_eq!(Exit::from_code(77), Exit::Failed);
    }

    #[test]
    fn causes_follow_the_sentence() {
        let failure = Failure::from(anyhow::anyhow!("no space left").context("cannot write x"));
        assert_eq!(failure.to_string(), "cannot write x: no space left");
        assert_eq!(failure.exit, Exit::Failed);
        let told = anyhow::anyhow!("no space left").context("cannot write x: no space left");
        assert_eq!(Failure::from(told).to_string(), "cannot write x: no space left");
    }
}
