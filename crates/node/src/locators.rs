//! Our own locators: where others may reach us, and which of them somebody did reach.
//!
//! A locator is of an interface, or observed by a peer; where the operator advertises some, those
//! are used instead. An observed one counts only after a peer dialled it back and met us; the others
//! are asked to be proved too, so that `status`, `doctor` and `invite` can tell whether anyone
//! outside can reach us.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_transport::{Policy, Private, dialable, interface_addresses};
use cloak_wire::{LOCATORS_MAX, PeerFrame, Purpose};

use crate::peer::Peer;
use crate::shared::Shared;
use crate::sync::{lock, read, write};
use crate::view::LocatorView;

/// Proofs that may be outstanding.
const PROOFS_MAX: usize = 256;
/// A proof is expected within this time.
const PROOF_TIMEOUT: Duration = Duration::from_secs(30);
/// Peers that are asked at a time to dial back what nobody has confirmed.
const CONFIRMERS_MAX: usize = 3;
/// Dials on a peer's word that may run at a time, over all peers.
const PROOF_DIALS_MAX: usize = 16;

/// Where a locator comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Advertised,
    Interface,
    Observed,
}

/// See the module.
pub(crate) struct OwnLocators {
    /// What our listeners are bound to.
    bound: Vec<SocketAddr>,
    advertised: RwLock<Vec<SocketAddr>>,
    private: bool,
    policy: RwLock<Policy>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Addresses at which a peer saw us, confirmed.
    observed: BTreeSet<SocketAddr>,
    confirmed: BTreeSet<SocketAddr>,
    proofs: HashMap<u64, Proof>,
    proof_dials: usize,
}

/// A locator that a peer was asked to dial.
struct Proof {
    locator: SocketAddr,
    by: DeviceId,
    since: Instant,
}

impl OwnLocators {
    pub(crate) fn new(bound: Vec<SocketAddr>, advertised: Vec<SocketAddr>, private: bool) -> Self {
        let policy = RwLock::new(policy(&bound, private));
        let advertised = RwLock::new(advertised);
        Self { bound, advertised, private, policy, state: Mutex::default() }
    }

    /// What the listeners are bound to.
    pub(crate) fn bound(&self) -> &[SocketAddr] {
        &self.bound
    }

    /// Takes over what the operator advertises now.
    pub(crate) fn advertise(&self, advertised: Vec<SocketAddr>) {
        *write(&self.advertised) = advertised;
    }

    /// The port of the first listener.
    pub(crate) fn port(&self) -> Option<u16> {
        self.bound.first().map(SocketAddr::port)
    }

    fn is_loopback(&self) -> bool {
        self.bound.iter().any(|address| address.ip().to_canonical().is_loopback())
    }

    /// Which locators of others may be dialled from here.
    pub(crate) fn policy(&self) -> RwLockReadGuard<'_, Policy> {
        read(&self.policy)
    }

    fn all(&self) -> Vec<(SocketAddr, Source)> {
        let mut all: Vec<_> =
            read(&self.advertised).iter().map(|address| (*address, Source::Advertised)).collect();
        // What the operator says is dialled instead of what we would find out.
        let bound = if all.is_empty() { &self.bound[..] } else { &[] };
        for bound in bound {
            if bound.ip().is_unspecified() {
                let fits = |ip: &IpAddr| bound.is_ipv6() || ip.is_ipv4();
                all.extend(
                    interface_addresses()
                        .into_iter()
                        .filter(fits)
                        .map(|ip| (SocketAddr::new(ip, bound.port()), Source::Interface)),
                );
            } else {
                let ip = bound.ip().to_canonical();
                all.push((SocketAddr::new(ip, bound.port()), Source::Interface));
            }
        }
        let state = lock(&self.state);
        all.extend(state.observed.iter().map(|address| (*address, Source::Observed)));
        drop(state);
        let mut seen = Vec::new();
        all.retain(|(address, _)| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        // The listener's own loopback address is of no use to others, unless it is all there is.
        if !self.is_loopback() {
            all.retain(|(address, _)| !address.ip().is_loopback());
        }
        all.truncate(LOCATORS_MAX);
        all
    }

    /// What we publish, best first.
    pub(crate) fn current(&self) -> Vec<SocketAddr> {
        self.all().into_iter().map(|(address, _)| address).collect()
    }

    /// Whether a peer reached us at any of them.
    pub(crate) fn is_confirmed(&self) -> bool {
        !lock(&self.state).confirmed.is_empty()
    }

    /// For `status`.
    pub(crate) fn views(&self) -> Vec<LocatorView> {
        let all = self.all();
        let state = lock(&self.state);
        all.into_iter()
            .map(|(address, source)| LocatorView {
                address: address.to_string(),
                source: match source {
                    Source::Advertised => "advertised",
                    Source::Interface => "interface",
                    Source::Observed => "observed",
                }
                .to_owned(),
                confirmed: state.confirmed.contains(&address),
            })
            .collect()
    }

    /// Cookies for the locators that nobody has confirmed yet, `observed` among them.
    fn to_prove(
        &self,
        observed: Option<SocketAddr>,
        by: DeviceId,
        now: Instant,
        mut cookie: impl FnMut() -> u64,
    ) -> Vec<(u64, SocketAddr)> {
        let mut candidates = self.current();
        if let (Some(observed), Some(port), []) =
            (observed, self.port(), &read(&self.advertised)[..])
        {
            let locator = SocketAddr::new(observed.ip().to_canonical(), port);
            if dialable(locator, &self.policy()).is_ok() && !candidates.contains(&locator) {
                candidates.push(locator);
            }
        }
        let mut state = lock(&self.state);
        state.proofs.retain(|_, proof| now.since(proof.since) < PROOF_TIMEOUT);
        candidates.retain(|address| !state.confirmed.contains(address));
        candidates.truncate(PROOFS_MAX.saturating_sub(state.proofs.len()));
        candidates
            .into_iter()
            .map(|address| {
                let cookie = cookie();
                let proof = Proof { locator: address, by, since: now };
                state.proofs.insert(cookie, proof);
                (cookie, address)
            })
            .collect()
    }

    /// Takes a proof; true when the set of published locators changed.
    fn proved(&self, cookie: u64, by: DeviceId) -> bool {
        let before = self.current();
        let mut state = lock(&self.state);
        if state.proofs.get(&cookie).is_none_or(|proof| proof.by != by) {
            return false;
        }
        let Some(Proof { locator: address, .. }) = state.proofs.remove(&cookie) else {
            return false;
        };
        state.confirmed.insert(address);
        if before.contains(&address) {
            return false;
        }
        state.observed.insert(address);
        while state.observed.len() > LOCATORS_MAX {
            state.observed.pop_first();
        }
        true
    }

    /// Forgets what was confirmed: the network is another.
    pub(crate) fn network_changed(&self) {
        *write(&self.policy) = policy(&self.bound, self.private);
        let mut state = lock(&self.state);
        state.observed.clear();
        state.confirmed.clear();
    }
}

fn policy(bound: &[SocketAddr], private: bool) -> Policy {
    let mut policy = Policy::of_this_machine(bound);
    if private {
        policy.private = Private::Any;
    }
    policy
}

impl Shared {
    /// Asks a newly linked peer to dial back what nobody has confirmed yet.
    pub(crate) fn confirm_locators(&self, peer: &Peer, observed: Option<SocketAddr>) {
        // Who says where it sees us does not also say that we can be reached there, if anybody
        // else could.
        let others = self.all_peers();
        let other =
            others.iter().find(|other| other.is_linked() && other.device() != peer.device());
        self.ask_for_proofs(other.map_or(peer, |other| &**other), observed);
    }

    fn ask_for_proofs(&self, peer: &Peer, observed: Option<SocketAddr>) {
        let by = peer.device();
        let proofs = self.locators.to_prove(observed, by, self.clock.now(), || self.random_u64());
        for (cookie, at) in proofs {
            peer.send(PeerFrame::DialBack { cookie, at: Some(at) });
        }
    }

    /// Asks some of the linked peers to dial back, where nobody has confirmed anything.
    pub(crate) fn confirm_anew(&self) {
        if self.locators.is_confirmed() {
            return;
        }
        let mut linked = self.all_peers();
        linked.retain(|peer| peer.is_linked());
        for _ in 0..CONFIRMERS_MAX.min(linked.len()) {
            let which = self.random_u64() % linked.len() as u64;
            let peer = linked.swap_remove(usize::try_from(which).unwrap_or(0));
            self.ask_for_proofs(&peer, None);
        }
    }

    /// A peer reached us at the locator that the cookie stands for.
    pub(crate) fn locator_proved(self: &Arc<Self>, cookie: u64, peer: DeviceId) {
        tracing::debug!(peer = %peer.fmt_short(), "a locator was confirmed");
        if self.locators.proved(cookie, peer) {
            self.publish();
        }
        self.overlay.moved();
        self.check_relays();
    }

    /// Dials a locator because its owner asked: only where the owner is connected from, or says in
    /// its record that it is, so that a peer cannot aim us at a victim at will.
    pub(crate) fn prove_locator(self: &Arc<Self>, owner: &Peer, cookie: u64, at: SocketAddr) {
        let ip = at.ip().to_canonical();
        let published = self.directory.published(owner.device());
        let is_its_own = owner.address().is_some_and(|address| address.ip().to_canonical() == ip)
            || published.iter().any(|locator| locator.ip().to_canonical() == ip);
        if !is_its_own || dialable(at, &self.locators.policy()).is_err() {
            return;
        }
        let owner = owner.device();
        {
            let mut state = lock(&self.locators.state);
            if state.proof_dials >= PROOF_DIALS_MAX {
                return;
            }
            state.proof_dials += 1;
        }
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let dial = shared.dialler.dial(at, Some(owner));
            let cancel = shared.cancel.clone();
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                dialled = tokio::time::timeout(cloak_transport::HANDSHAKE_TIMEOUT, dial) => {
                    if let Ok(Ok(connection)) = dialled {
                        let _ = shared.greet(connection, Purpose::Proof { cookie }).await;
                    }
                }
            }
            lock(&shared.locators.state).proof_dials -= 1;
        });
    }
}
