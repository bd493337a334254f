//! How much credit a receiver gives: a window that grows with the bandwidth-delay product.

use std::time::Duration;

use cloak_base::Instant;

/// Credit window of one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    size: u64,
    max: u64,
    /// Offset and time at which the present measurement began.
    from: (u64, Instant),
}

impl Window {
    pub(crate) fn new(size: u64, max: u64, offset: u64, now: Instant) -> Self {
        Self { size: size.min(max), max, from: (offset, now) }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The size that it never exceeds.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Whether the round trip will soon be needed.
    pub(crate) fn is_half_used(&self, delivered: u64) -> bool {
        delivered - self.from.0 >= self.size / 2
    }

    /// Doubles the window when it was used up within two round trips, for then it is what limits
    /// the sender. `may_grow`: whether there is memory.
    pub(crate) fn delivered(
        &mut self,
        now: Instant,
        delivered: u64,
        rtt: Option<Duration>,
        may_grow: bool,
    ) {
        let (offset, since) = self.from;
        if delivered - offset < self.size {
            return;
        }
        self.from = (delivered, now);
        if may_grow && rtt.is_some_and(|rtt| now.since(since) < rtt * 2) {
            self.size = (self.size * 2).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_only_while_it_is_the_limit() {
        let rtt = Some(Duration::from_millis(10));
        let mut now = Instant::from_micros(1);
        let mut window = Window::new(16, 64, 0, now);
        window.delivered(now, 15, rtt, true);
        assert_eq!(window.size(), 16);
        now = now + Duration::from_millis(19);
        window.delivered(now, 16, rtt, true);
        assert_eq!(window.size(), 32, "used up within two round trips");
        now = now + Duration::from_millis(21);
        window.delivered(now, 48, rtt, true);
        assert_eq!(window.size(), 32, "slower than that");
        window.delivered(now, 80, rtt, false);
        assert_eq!(window.size(), 32, "no memory");
        for delivered in [112, 176, 240] {
            window.delivered(now, delivered, rtt, true);
        }
        assert_eq!(window.size(), 64, "never above the maximum");
    }
}
