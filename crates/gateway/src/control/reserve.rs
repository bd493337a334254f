//! Descriptors kept back, so that `cloak status` and `cloak stop` work when all others are in use.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

/// How many: two people looking at a gateway in trouble, and some more.
const RESERVED: usize = 8;

/// The descriptors. Each is given up for one connection, and taken back when that ends.
#[derive(Debug)]
pub(super) struct Reserve(Mutex<Vec<File>>);

impl Reserve {
    /// Takes as many as there are, at most [`RESERVED`].
    pub(super) fn new() -> Self {
        let reserve = Self(Mutex::new(Vec::with_capacity(RESERVED)));
        (0..RESERVED).for_each(|_| reserve.take_back());
        reserve
    }

    /// Gives one up if `error` says that there are no others. Whether an accept may work now.
    pub(super) fn give_up(&self, error: &io::Error) -> bool {
        let exhausted = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        exhausted && self.files().pop().is_some()
    }

    /// Takes one, unless it is full or there is none.
    pub(super) fn take_back(&self) {
        let mut files = self.files();
        if files.len() < RESERVED
            && let Ok(file) = File::open("/dev/null")
        {
            files.push(file);
        }
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_given_up_for_each_connection() {
        let reserve = Reserve::new();
        let exhausted = io::Error::from(Errno::MFILE);
        assert!(!reserve.give_up(&io::Error::from(Errno::CONNABORTED)));
        assert!((0..RESERVED).all(|_| reserve.give_up(&exhausted)));
        assert!(!reserve.give_up(&exhausted), "nothing is left");
        reserve.take_back();
        assert!(reserve.give_up(&exhausted));
        (0..2 * RESERVED).for_each(|_| reserve.take_back());
        assert_eq!(reserve.files().len(), RESERVED);
    }
}
