//! One account of all bytes held in buffers, with fair shares per peer.
//!
//! What is charged is memory that holds bytes, never credit that was only promised. Below the
//! high-water mark everyone may charge; above it, a peer may not go over its share, which is the
//! maximum divided by the number of peers that hold anything. Sending is refused memory
//! (back-pressure), but for 4 KiB of each session, without which those that move would stand still
//! behind those that are stuck; receiving within promised credit is not, so the sum may pass the
//! maximum by at most these and the credit that was out. Growth of credit stops above the mark, and the driver sheds
//! sessions while [`Ledger::is_over_high_water`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cloak_base::DeviceId;

use crate::chunk::Pool;

/// The account of all buffers of a gateway.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Book>);

/// A handle on the ledger for the sessions with one peer.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Account>);

#[derive(Debug)]
struct Book {
    max: u64,
    high_water: u64,
    held: AtomicU64,
    /// Accounts that hold anything.
    holders: AtomicU64,
    accounts: Mutex<BTreeMap<DeviceId, Weak<Account>>>,
    pool: Pool,
}

#[derive(Debug)]
struct Account {
    book: Arc<Book>,
    held: AtomicU64,
}

impl Ledger {
    /// A ledger of at most `max` bytes; its high-water mark is at three quarters.
    pub fn new(max: u64) -> Self {
        Self(Arc::new(Book {
            max,
            high_water: max / 4 * 3,
            held: AtomicU64::new(0),
            holders: AtomicU64::new(0),
            accounts: Mutex::default(),
            pool: Pool::default(),
        }))
    }

    /// The account of `peer`; the same one for as long as anybody has a handle on it.
    pub fn account(&self, peer: DeviceId) -> Memory {
        let mut accounts = lock(&self.0.accounts);
        if let Some(account) = accounts.get(&peer).and_then(Weak::upgrade) {
            return Memory(account);
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let account = Arc::new(Account { book: Arc::clone(&self.0), held: AtomicU64::new(0) });
        accounts.insert(peer, Arc::downgrade(&account));
        Memory(account)
    }

    /// Bytes held in all buffers.
    pub fn held(&self) -> u64 {
        self.0.held.load(Relaxed)
    }

    /// Most bytes that may be held.
    pub fn max(&self) -> u64 {
        self.0.max
    }

    /// Whether sessions should be shed.
    pub fn is_over_high_water(&self) -> bool {
        self.0.is_over_high_water()
    }

    /// Whether a new session may be opened: otherwise refuse it with `Busy`.
    pub fn admits_new_session(&self) -> bool {
        !self.is_over_high_water()
    }
}

impl Memory {
    /// Charges `bytes`, if the maximum and the peer's fair share allow.
    pub fn try_charge(&self, bytes: u64) -> bool {
        let book = &self.0.book;
        let total = book.held.load(Relaxed) + bytes;
        let own = self.0.held.load(Relaxed) + bytes;
        let share = book.max / book.holders.load(Relaxed).max(1);
        let fits = total <= book.high_water || (total <= book.max && own <= share);
        if fits {
            self.charge(bytes);
        }
        fits
    }

    /// Charges `bytes` in any case: for what the peer was given credit for.
    pub fn charge(&self, bytes: u64) {
        self.0.book.held.fetch_add(bytes, Relaxed);
        if self.0.held.fetch_add(bytes, Relaxed) == 0 {
            self.0.book.holders.fetch_add(1, Relaxed);
        }
    }

    /// Gives back `bytes` that were charged.
    pub fn release(&self, bytes: u64) {
        self.0.book.held.fetch_sub(bytes, Relaxed);
        if self.0.held.fetch_sub(bytes, Relaxed) == bytes {
            self.0.book.holders.fetch_sub(1, Relaxed);
        }
    }

    /// Bytes held for this peer.
    pub fn held(&self) -> u64 {
        self.0.held.load(Relaxed)
    }

    /// Whether memory is short: credit must not grow.
    pub fn is_short(&self) -> bool {
        self.0.book.is_over_high_water()
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0.book.pool
    }
}

impl Book {
    fn is_over_high_water(&self) -> bool {
        self.held.load(Relaxed) > self.high_water
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(byte: u8) -> DeviceId {
        DeviceId::from_bytes([byte; 32])
    }

    #[test]
    fn shares_are_fair_above_the_mark_only() {
        let ledger = Ledger::new(1000);
        let (greedy, modest) = (ledger.account(peer(1)), ledger.account(peer(2)));
        assert!(greedy.try_charge(740) && modest.try_charge(10));
        assert!(!ledger.is_over_high_water() && ledger.admits_new_session());
        assert!(!greedy.try_charge(10), "above the mark its share is a half");
        assert!(modest.try_charge(200));
        assert!(!ledger.admits_new_session());
        assert!(!modest.try_charge(51), "never above the maximum");
        greedy.release(740);
        assert_eq!((ledger.held(), modest.held()), (210, 210));
        assert!(modest.try_charge(790), "alone, it may have everything");
    }

    #[test]
    fn a_peer_has_one_account() {
        let ledger = Ledger::new(1000);
        let first = ledger.account(peer(1));
        first.charge(5);
        assert_eq!(ledger.account(peer(1)).held(), 5);
        assert_eq!(ledger.account(peer(2)).held(), 0);
    }
}
