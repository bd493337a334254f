//! Limits and delays of a session.

use std::time::Duration;

/// Limits and delays of one session. Both ends have their own; nothing here is negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Longest suspension before a session is lost. Default 24 h.
    pub linger: Duration,
    /// Most bytes kept for replay, and the largest credit window, per direction. Default 4 MiB.
    pub buffer_max: u64,
    /// Bytes kept for replay before the path has shown that it carries more. Default 64 KiB, the
    /// most a TCP without window scaling keeps in flight.
    pub buffer_start: u64,
    /// Credit window of a session that has not moved much yet. Default 16 KiB, one TLS record.
    pub idle_credit: u64,
    /// Longest time from `Open` to its answer. Default 30 s.
    pub opening_max: Duration,
    /// How long an end that knows the session to be complete tries to let the other know, before
    /// it leaves that to its tombstone. Default 30 s.
    pub closing_max: Duration,
    /// How long a suspended session keeps its buffers in memory. Default 60 s.
    pub spill_after: Duration,
    /// Longest time for which an acknowledgement waits for company. Default 200 ms.
    pub ack_delay: Duration,
    /// The bug that a test plants.
    #[cfg(feature = "planted")]
    #[doc(hidden)]
    pub planted: Option<crate::Planted>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(24 * 3600),
            buffer_max: 4 << 20,
            buffer_start: 64 << 10,
            idle_credit: 16 << 10,
            opening_max: Duration::from_secs(30),
            closing_max: Duration::from_secs(30),
            spill_after: Duration::from_secs(60),
            ack_delay: Duration::from_millis(200),
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}
