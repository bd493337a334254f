//! The first hop of what we ask: the one that we choose ourselves.
//!
//! A peer that acknowledges what it should pass on, and drops it, looks as good as any other to the
//! hop before it. But whoever asked knows over whom, and whether an answer came back the same way.
//! So links have scores, and questions go over those that answer: to the nearest that is nearer than
//! we are, where none of these is good or left to another neighbour, as the beginning of a detour,
//! even to a peer that we are linked to by chance, and only then over one that does not answer. Honest
//! peers have dead and lying ones behind them as well, but not always.

use cloak_base::DeviceId;
use cloak_geometry::{Address, Distance, Towards};

use crate::detour::mark;
use crate::links::Link;
use crate::message::{Body, Detour, Message, Routed};
use crate::overlay::Overlay;
use crate::snapshot::Role;

/// How often questions over a link were answered of late: a mean in which the last one counts a
/// third, from 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Score(u8);

/// Below this score a link is bad: after three questions without an answer, if there was nothing but
/// answers before.
const BAD: u8 = 96;
/// What a score gains between two sweeps, so that nothing is held against a peer for ever.
const FORGIVEN: u8 = 2;

impl Score {
    /// Of a link over which nothing was asked yet.
    pub(crate) const GOOD: Self = Self(u8::MAX);

    fn answered(&mut self) {
        self.0 += (u8::MAX - self.0).div_ceil(3);
    }

    fn unanswered(&mut self) {
        self.0 -= self.0.div_ceil(3);
    }

    pub(crate) fn forgive(&mut self) {
        self.0 = self.0.saturating_add(FORGIVEN);
    }

    pub(crate) fn is_bad(self) -> bool {
        self.0 < BAD
    }
}

/// How a link is ranked for a question; the least is taken.
type Merit = (bool, bool, bool, Distance);

impl Overlay {
    /// Sends a question on its way, over another first hop than those in `tried` where there is one;
    /// adds the one that was taken, over which the answer comes back, and says which it is.
    pub(crate) fn ask_over(
        &mut self,
        to: Address,
        device: Option<DeviceId>,
        body: Body,
        tried: &mut Vec<DeviceId>,
    ) -> Option<DeviceId> {
        let origin = self.origin()?;
        let mut routed = Routed::new(to, device, origin, body);
        let linked = device.and_then(|device| self.links.get(device));
        if self.binds(&routed.to) || linked.is_some_and(|link| !link.suspected) {
            self.forward(routed);
            return None;
        }
        let Some(((_, _, beyond, _), first)) = self.best_first(&routed.to, tried) else {
            self.forward(routed);
            return None;
        };
        tried.push(first);
        if let Some(there) = self.links.get(first).and_then(|link| self.place_of(link)) {
            routed.origin.address = there.clone();
        }
        if let Some(own) = self.address().filter(|_| beyond) {
            let passed = vec![mark(&self.own_device())];
            routed.detour = Some(Box::new(Detour { from: own.clone(), passed }));
        }
        self.send_hop(first, routed);
        Some(first)
    }

    /// A question over this link was answered.
    pub(crate) fn first_answered(&mut self, first: Option<DeviceId>) {
        if let Some(link) = first.and_then(|first| self.links.get_mut(first)) {
            link.score.answered();
        }
    }

    /// A question over this link was not answered in time.
    pub(crate) fn first_unanswered(&mut self, first: Option<DeviceId>) {
        if let Some(link) = first.and_then(|first| self.links.get_mut(first)) {
            link.score.unanswered();
        }
    }

    pub(crate) fn forgive_firsts(&mut self) {
        for device in self.links.devices(|link| link.score != Score::GOOD) {
            if let Some(link) = self.links.get_mut(device) {
                link.score.forgive();
            }
        }
    }

    /// Gives one extra link back over which nothing is answered: another will do better.
    pub(crate) fn release_bad_extra(&mut self) {
        let bad = |link: &&Link| link.score.is_bad();
        let worst = self.links.with_role(Role::Extra).filter(bad).min_by_key(|link| link.score.0);
        if let Some(worst) = worst.map(Link::device) {
            self.set_role(worst, Role::Passing);
            self.send(worst, Message::Release);
        }
    }

    fn best_first(&self, to: &Address, tried: &[DeviceId]) -> Option<(Merit, DeviceId)> {
        let degree = self.config.degree;
        let towards = Towards::new(to, degree);
        let own = self.address().map(|own| towards.distance(own));
        let open = self.links.iter().filter(|link| self.may_lead_on(link));
        let open = open.filter(|link| !tried.contains(&link.device()));
        let ranked = open.filter_map(|link| {
            let there = towards.distance(self.place_of(link)?);
            let passing = !self.forwards(link);
            let beyond = own.is_some_and(|own| there >= own);
            Some(((link.score.is_bad(), passing, beyond, there), link.device()))
        });
        ranked.min()
    }

    /// Whether a question of ours may go over a link: there is more choice than for what passes us.
    pub(crate) fn may_lead_on(&self, link: &Link) -> bool {
        let is_good_passing = link.role == Role::Passing && link.rooted;
        !link.suspected && self.place_of(link).is_some() && (self.forwards(link) || is_good_passing)
    }

    /// Where a linked peer is, for routing: in our tree, or in any while we have no place.
    pub(crate) fn place_of<'a>(&self, link: &'a Link) -> Option<&'a Address> {
        match self.tree.chain {
            Some(_) => link.address.as_ref(),
            None => link.chain.as_ref().map(crate::Chain::address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_falls_and_rises_within_some_questions() {
        let mut score = Score::GOOD;
        let until = |score: &mut Score, step: fn(&mut Score), bad: bool| {
            (1..).find(|_| {
                step(score);
                score.is_bad() == bad
            })
        };
        assert_eq!(until(&mut score, Score::unanswered, true), Some(3));
        assert_eq!(until(&mut score, Score::answered, false), Some(1));
        for _ in 0..40 {
            score.unanswered();
        }
        assert_eq!(score, Score(0));
        assert_eq!(until(&mut score, Score::answered, false), Some(2));
        score.0 = 0;
        assert_eq!(until(&mut score, Score::forgive, false), Some(48));
        for _ in 0..200 {
            score.answered();
            score.forgive();
        }
        assert_eq!(score, Score::GOOD);
    }
}
