//! The state machine's face: inputs are given to the part that they concern.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cloak_base::{DeviceId, Instant, Rng, UnixTime};
use cloak_geometry::Address;

use crate::attach::Attachment;
use crate::cert::Certifier;
use crate::config::Config;
use crate::contact::{Contact, Own, Standing};
use crate::dials::Dial;
use crate::election::Candidacy;
use crate::event::{Code, Command, Event, Input, Place};
use crate::keep::Recalling;
use crate::limits::{Budget, MISSED_MAX};
use crate::links::{Link, Links};
use crate::lookup::Questions;
use crate::message::{Greet, Message, Refusal};
use crate::orphan::Orphan;
use crate::publish::Publications;
use crate::record::RecordVerifier;
use crate::route::Hops;
use crate::seek::Seek;
use crate::snapshot::{Role, Stats};
use crate::store::Store;
use crate::succession::Vacancy;
use crate::timers::{Timer, Timers};
use crate::tree::Tree;

/// One overlay peer. One task owns it.
///
/// After every [`handle`](Self::handle) it is to be emptied, see [`drain`](crate::drain).
pub struct Overlay {
    pub(crate) now: Instant,
    pub(crate) own: Own,
    pub(crate) config: Arc<Config>,
    pub(crate) certifier: Arc<dyn Certifier + Send + Sync>,
    pub(crate) verifier: Arc<dyn RecordVerifier + Send + Sync>,
    pub(crate) rng: Rng,
    pub(crate) out: VecDeque<(DeviceId, Message)>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) timers: Timers,
    pub(crate) links: Links,
    /// Neighbours that fell silent, the last ones.
    pub(crate) missed: VecDeque<DeviceId>,
    pub(crate) dials: Vec<Dial>,
    pub(crate) remembered: Vec<Contact>,
    /// Counts the remembered peers that were asked where they are.
    pub(crate) explored: usize,
    /// The last one of them, and how many of those before it in a row did not answer, it included.
    pub(crate) exploring: Option<(DeviceId, u8)>,
    pub(crate) tree: Tree,
    pub(crate) attachment: Attachment,
    pub(crate) seek: Option<Box<Seek>>,
    pub(crate) orphan: Option<Box<Orphan>>,
    pub(crate) vacancies: Vec<Vacancy>,
    pub(crate) election: Option<Box<Candidacy>>,
    /// Looks for an extra link since the last offer of one.
    pub(crate) extra_misses: u8,
    pub(crate) hops: Hops,
    pub(crate) store: Store,
    pub(crate) recalling: Recalling,
    pub(crate) published: Publications,
    pub(crate) questions: Questions,
    pub(crate) stats: Stats,
    /// Since when others can dial us.
    pub(crate) reachable: Option<Instant>,
    created: Instant,
    pub(crate) running: bool,
}

impl Overlay {
    /// A peer that has no place and no links. It does nothing before `Input::Start`.
    pub fn new(
        now: Instant,
        own: Own,
        config: Arc<Config>,
        certifier: Arc<dyn Certifier + Send + Sync>,
        verifier: Arc<dyn RecordVerifier + Send + Sync>,
        rng: Rng,
    ) -> Self {
        Self {
            now,
            own,
            config,
            certifier,
            verifier,
            rng,
            out: VecDeque::new(),
            events: VecDeque::new(),
            timers: Timers::default(),
            links: Links::default(),
            missed: VecDeque::new(),
            dials: Vec::new(),
            remembered: Vec::new(),
            explored: 0,
            exploring: None,
            tree: Tree::default(),
            attachment: Attachment::default(),
            seek: None,
            orphan: None,
            vacancies: Vec::new(),
            election: None,
            extra_misses: 0,
            hops: Hops::default(),
            store: Store::default(),
            recalling: Recalling::default(),
            published: Publications::default(),
            questions: Questions::default(),
            stats: Stats::default(),
            reachable: None,
            created: now,
            running: false,
        }
    }

    /// Takes something in. `now` never runs backwards.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Start { bootstrap } => self.start(&bootstrap),
            Input::LinkUp { contact, standing } => self.link_up(contact, standing),
            Input::LinkDown { device } => self.link_down(device),
            Input::DialFailed { device } => self.unreachable(device),
            Input::Message { from, message } => self.message(from, message),
            Input::Malformed { from } => self.misbehaved(from, Code::Malformed),
            Input::Timeout => self.timeout(),
            Input::Reachability { confirmed } => self.reachability(confirmed),
            Input::Moved { locators } => {
                self.own.contact = Contact::new(self.own_device(), &locators);
                self.tell_kin();
            }
            Input::WallClock(unix) => (self.own.started, self.created) = (unix, self.now),
            Input::Woke => self.woke(),
            Input::Command(command) => self.command(command),
        }
    }

    /// The next message, and over whose link.
    pub fn poll_transmit(&mut self) -> Option<(DeviceId, Message)> {
        let next = self.out.pop_front();
        self.stats.sent += u64::from(next.is_some());
        next
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `Input::Timeout` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Where this device is in the overlay.
    pub fn place(&self) -> Place {
        if let Some(chain) = &self.tree.chain {
            let address = chain.address().clone();
            return Place::Inner { address, tree: chain.tree(), term: chain.term() };
        }
        let hosts: Vec<(DeviceId, Address)> = self
            .links
            .with_role(Role::Host)
            .filter_map(|link| Some((link.device(), link.chain.as_ref()?.address().clone())))
            .collect();
        if hosts.is_empty() { Place::Seeking } else { Place::Attached { hosts } }
    }

    /// When anything came last over the link to this device, if there is one.
    pub fn heard(&self, device: DeviceId) -> Option<Instant> {
        self.links.get(device).map(|link| link.heard)
    }

    /// Where others may dial us, as far as it was told.
    pub fn locators(&self) -> &[std::net::SocketAddr] {
        &self.own.contact.locators
    }

    /// The wall-clock time at the last input, counted on from when it was last told.
    pub fn unix(&self) -> UnixTime {
        self.own.started + self.now.since(self.created)
    }

    pub(crate) fn own_device(&self) -> DeviceId {
        self.own.contact.device
    }

    /// Our address, when we are in a tree.
    pub(crate) fn address(&self) -> Option<&Address> {
        self.tree.chain.as_ref().map(crate::Chain::address)
    }

    pub(crate) fn random_below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.rng.below(bound)).unwrap_or(0)
    }

    /// `span`, a tenth shorter or longer: peers that begin together do not stay in step.
    pub(crate) fn jittered(&mut self, span: Duration) -> Instant {
        self.now + self.rng.duration(span.mul_f64(0.9), span.mul_f64(1.1))
    }

    /// A peer broke a limit or lied. What it was to us, it is no more.
    pub(crate) fn misbehaved(&mut self, device: DeviceId, code: Code) {
        self.remembered.retain(|contact| contact.device != device);
        if self.links.has(device) {
            self.unlink(device);
            self.events.push_back(Event::Misbehaved { device, code });
        }
    }

    /// Ends a link that is of no use.
    pub(crate) fn hang_up(&mut self, device: DeviceId, code: Code) {
        if self.links.has(device) {
            self.unlink(device);
            self.events.push_back(Event::Hangup { device, code });
        }
    }

    fn start(&mut self, bootstrap: &[Contact]) {
        for contact in bootstrap {
            if contact.device != self.own_device() {
                self.remember(contact);
            }
        }
        self.running = true;
        self.timers.set(Timer::Explore, self.now);
        let sweep = self.jittered(SWEEP_EVERY);
        self.timers.set(Timer::Sweep, sweep);
        self.find_place();
    }

    fn link_up(&mut self, contact: Contact, standing: Standing) {
        let device = contact.device;
        if device == self.own_device() {
            return;
        }
        let dialled = self.end_dial(device);
        self.remember(&contact);
        if let Some(link) = self.links.get_mut(device) {
            link.contact = contact.clone();
            if self.tree.parent == Some(device) {
                self.tree.parent_contact = Some(contact);
                self.tell_kin();
            }
            // The driver replaced a connection. What we know of the peer holds, but it may have
            // forgotten us.
            self.greet(device);
            let waited = dialled.into_iter().flatten();
            self.out.extend(waited.map(|message| (device, message)));
            self.vacancy_peer_alive(device);
            return;
        }
        if !self.make_room(dialled.is_some()) {
            self.events.push_back(Event::Hangup { device, code: Code::Unused });
            return;
        }
        let budget = Budget::full(self.config.messages_per_second, self.now);
        self.links.insert(Link::new(contact, standing, self.now, budget));
        if let Some(at) = self.missed.iter().position(|missed| *missed == device) {
            let _ = self.missed.remove(at);
            self.touch_soon();
        }
        self.greet(device);
        for message in dialled.into_iter().flatten() {
            self.out.push_back((device, message));
        }
        self.vacancy_peer_alive(device);
    }

    fn link_down(&mut self, device: DeviceId) {
        self.unlink(device);
    }

    /// Forgets a link, and does what its role asks for.
    pub(crate) fn unlink(&mut self, device: DeviceId) {
        let Some(link) = self.links.remove(device) else { return };
        self.reroute_around(device);
        if link.role != Role::Passing {
            self.missed.truncate(MISSED_MAX - 1);
            self.missed.push_front(device);
        }
        match link.role {
            Role::Parent => self.orphaned(),
            Role::Child => self.child_lost(&link),
            Role::Host => self.host_lost(),
            Role::Extra | Role::Guest | Role::Passing => {}
        }
        self.vacancy_peer_gone(device);
    }

    /// Tells a peer where we are.
    pub(crate) fn greet(&mut self, device: DeviceId) {
        let greet = Greet { chain: self.tree.chain.clone(), rooted: self.tree.rooted };
        self.send(device, Message::Greet(Box::new(greet)));
    }

    fn message(&mut self, from: DeviceId, message: Message) {
        let now = self.now;
        let Some(link) = self.links.get_mut(from) else { return };
        self.stats.received += 1;
        let rate = match link.role {
            Role::Parent | Role::Child | Role::Extra => self.config.passed_on_per_second,
            Role::Host | Role::Guest | Role::Passing => self.config.messages_per_second,
        };
        if !link.budget.take(rate, now) {
            return self.misbehaved(from, Code::Flood);
        }
        link.heard = now;
        link.suspected = false;
        if link.probed.take().is_some() {
            self.vacancy_peer_alive(from);
        }
        self.dispatch(from, message);
    }

    pub(crate) fn dispatch(&mut self, from: DeviceId, message: Message) {
        match message {
            Message::Beat(beat) => self.on_beat(from, beat),
            Message::Ack { hop } => self.hops.acknowledged(from, hop),
            Message::Routed(routed) => self.on_routed(from, *routed),
            Message::Greet(greet) => self.on_greet(from, *greet),
            Message::Probe => self.send(from, Message::Alive),
            Message::Alive => {}
            Message::Join => self.on_join(from),
            Message::Joined(chain) => self.on_joined(from, chain),
            Message::Refused(refusal) => self.on_refused(from, refusal),
            Message::Below(below) => self.on_below(from, below),
            Message::Above(above) => self.on_above(from, *above),
            Message::Held(held) => self.on_held(from, *held),
            Message::Claim(claim) => self.on_claim(from, *claim),
            Message::Holder(holder) => self.on_holder(from, *holder),
            Message::Succeed(chain) => self.on_succeed(from, chain),
            Message::Adopt(chain) => self.on_adopt(from, chain),
            Message::Will(will) => self.on_will(from, *will),
            Message::WillKept(number) => self.on_will_kept(from, number),
            Message::Missed(testament) => self.on_missed(from, testament),
            Message::Stand(stand) => self.on_stand(from, *stand),
            Message::Voted(voted) => self.on_voted(*voted),
            Message::Promised { term } => self.on_promised(from, term),
            Message::Yield(yielded) => self.on_yield(from, *yielded),
            Message::Leaving => self.on_leaving(from),
            Message::HostAsk => self.on_host_ask(from),
            Message::HostYes => self.on_host_yes(from),
            Message::ExtraAsk => self.on_extra_ask(from),
            Message::ExtraYes => self.on_extra_yes(from),
            Message::Release => self.on_release(from),
            Message::KeepCopy(copy) => self.on_keep_copy(from, copy),
            Message::WantCopy(copy) => self.on_want_copy(from, copy),
            Message::Recall(recall) => self.on_recall(from, &recall),
        }
    }

    fn on_refused(&mut self, from: DeviceId, refusal: Refusal) {
        match refusal {
            Refusal::Full => self.seek_unreachable(from),
            Refusal::NoPlace => self.on_no_place(from),
            Refusal::Kin => self.seek_refused_for_kin(from),
            Refusal::WrongPeer => self.on_wrong_peer(from),
            Refusal::Declined => self.on_declined(from),
        }
    }

    fn timeout(&mut self) {
        for timer in Timer::ALL {
            if !self.timers.take_due(timer, self.now) {
                continue;
            }
            match timer {
                Timer::Hops => self.on_hops_due(),
                Timer::Probes => self.on_probes_due(),
                Timer::Dials => self.on_dials_due(),
                Timer::Beat => self.on_beat_due(),
                Timer::Orphan => self.on_orphan_due(),
                Timer::Vacancies => self.on_vacancies_due(),
                Timer::Recall => self.on_recall_due(),
                Timer::Seek => self.on_seek_due(),
                Timer::Move => self.on_move_due(),
                Timer::Questions => self.on_questions_due(),
                Timer::Keepalive => self.on_keepalive_due(),
                Timer::Extra => self.on_extra_due(),
                Timer::Strays => self.on_strays_due(),
                Timer::Touch => self.on_touch_due(),
                Timer::Explore => self.on_explore_due(),
                Timer::Sweep => self.on_sweep_due(),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Publish { key, record } => self.publish(key, record),
            Command::Withdraw { key } => self.published.withdraw(&key),
            Command::Restore { key, record } => self.restore(&key, &record),
            Command::Lookup { id, key } => self.lookup(id, key),
            Command::Ping { id, to } => self.ping(id, to),
            Command::Trace { id, to } => self.trace(id, to),
            Command::Leave => self.leave(),
        }
    }
}

/// Between two looks for what is over.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(20);
