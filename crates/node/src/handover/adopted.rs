//! What was handed over to us: no capsule counts twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloak_base::{Generation, SessionId};
use cloak_wire::Code;

use crate::sync::lock;

/// Ends that may be on their way to us at a time.
const RECEIVING_MAX: usize = 16;
/// Sessions that are remembered, the oldest dropped first.
const REMEMBERED_MAX: usize = 65_536;

/// The newest generation of each session that we were given.
#[derive(Default)]
pub(crate) struct Adopted {
    known: Mutex<Known>,
    receiving: AtomicUsize,
}

#[derive(Default)]
struct Known {
    generations: BTreeMap<SessionId, Generation>,
    order: VecDeque<SessionId>,
}

/// One of the ends that are on their way to us.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a AtomicUsize);

impl Adopted {
    /// Admits an end on its way, once for each generation.
    ///
    /// # Errors
    /// [`Code::Moved`] for one that came before, [`Code::Busy`] where too many come at once.
    pub(crate) fn admit(
        &self,
        session: SessionId,
        generation: Generation,
    ) -> Result<Place<'_>, Code> {
        let place = self.place().ok_or(Code::Busy)?;
        let mut known = lock(&self.known);
        match known.generations.insert(session, generation) {
            Some(before) if before >= generation => {
                known.generations.insert(session, before);
                return Err(Code::Moved);
            }
            Some(_) => {}
            None => known.order.push_back(session),
        }
        if known.order.len() > REMEMBERED_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.generations.remove(&oldest);
        }
        Ok(place)
    }

    /// Ends that are on their way to us now.
    pub(crate) fn underway(&self) -> usize {
        self.receiving.load(Ordering::Relaxed)
    }

    fn place(&self) -> Option<Place<'_>> {
        let taken = self.receiving.fetch_add(1, Ordering::Relaxed);
        // Given back at once where there were enough.
        let place = Place(&self.receiving);
        (taken < RECEIVING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capsule_counts_once() {
        let (adopted, session) = (Adopted::default(), SessionId::from_bytes([1; 16]));
        let admit = |generation| adopted.admit(session, Generation(generation)).map(drop);
        assert_eq!((admit(1), admit(1)), (Ok(()), Err(Code::Moved)));
        assert_eq!((admit(3), admit(2), admit(4)), (Ok(()), Err(Code::Moved), Ok(())));
        let places: Vec<_> = (0..RECEIVING_MAX).map(|_| adopted.place().unwrap()).collect();
        assert!(adopted.place().is_none());
        drop(places);
        assert!(adopted.place().is_some());
    }
}
