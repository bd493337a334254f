//! A town: a realm of many gateways that joined through one another.
//!
//! The first founds the realm. Of those that follow every third is a further device of the member
//! before it, which invited it; the others are members, and every sixth becomes a registrar of the
//! realm and invites those after it. So nobody knows everybody at the start, and who invited whom is a
//! chain as long as the town is big.
//!
//! Each exposes the same two services, [`port::ECHO`] and [`port::PACED`]. All live on loopback, or
//! each on a host of its own choice.

mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use place::{Place, binder, is_one_overlay, root};

use crate::client::{self, Refused};
use crate::clock::{POLL, now, pause, wait_for};
use crate::gateway::{Gateway, Up};
use crate::netns::Host;
use crate::origin::TcpOrigin;
use crate::paced::{self, Load};
use crate::realm::{Home, Realm, last_line};
use crate::site::port;

/// Gateways of the realm that are its registrars: the first, and every sixth after it.
const REGISTRAR_EVERY: usize = 6;
/// Commands that run side by side on the two cores that the suite is made for.
const WORKERS: usize = 8;
/// The overlay ports of gateways on hosts begin here, their proxy ports there.
const OVERLAY_PORT: usize = 7140;
const PROXY_PORT: usize = 1080;
/// From the last gateway's start to one overlay of all.
const TOGETHER_WITHIN: Duration = Duration::from_secs(60);
/// From one overlay to a way from each to each.
const REACHED_WITHIN: Duration = Duration::from_secs(30);

/// The gateways, by the order in which they joined.
#[derive(Debug)]
pub struct Town {
    residents: Vec<Resident>,
    living: BTreeSet<usize>,
    /// Last, so that the gateways end first.
    realm: Realm,
}

#[derive(Debug)]
struct Resident {
    gateway: Gateway,
    up: Up,
    host: Option<Host>,
    echo: TcpOrigin,
    _paced: TcpOrigin,
}

/// A question to the names of the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Number of the gateway that is asked.
    pub at: usize,
    /// The name it is asked for.
    pub name: String,
}

/// Who invites a newcomer, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Invited {
    /// Nobody: it founds the realm.
    Founder,
    Member {
        by: usize,
    },
    Device {
        by: usize,
    },
}

fn invited(index: usize) -> Invited {
    match index {
        0 => Invited::Founder,
        _ if index % 3 == 2 => Invited::Device { by: index - 1 },
        // The newest registrar that two others have followed.
        _ => Invited::Member { by: (index.max(2) - 2) / REGISTRAR_EVERY * REGISTRAR_EVERY },
    }
}

impl Town {
    /// `count` gateways on loopback, each at a port of its own, in one overlay.
    ///
    /// # Panics
    /// When one cannot join, or they do not become one overlay.
    #[track_caller]
    #[must_use]
    pub fn on_loopback(realm: Realm, count: usize) -> Self {
        Self::start(realm, vec![None; count])
    }

    /// A gateway on each of `hosts`, where a host may be named more than once, in one overlay.
    ///
    /// # Panics
    /// When one cannot join, or they do not become one overlay.
    #[track_caller]
    #[must_use]
    pub fn on_hosts(realm: Realm, hosts: Vec<Host>) -> Self {
        Self::start(realm, hosts.into_iter().map(Some).collect())
    }

    #[track_caller]
    fn start(realm: Realm, hosts: Vec<Option<Host>>) -> Self {
        let mut town = Self { residents: Vec::new(), living: BTreeSet::new(), realm };
        for (index, host) in hosts.into_iter().enumerate() {
            let home = town.enrol(index, host.as_ref());
            town.move_in(home, host);
            if index > 0 && index % REGISTRAR_EVERY == 0 {
                town.appoint_registrar(index);
            }
        }
        town.assert_one_overlay("all", TOGETHER_WITHIN);
        town
    }

    /// A home that joined as the plan says.
    #[track_caller]
    fn enrol(&self, index: usize, host: Option<&Host>) -> Home {
        let name = format!("m{index:02}");
        match invited(index) {
            Invited::Founder => {
                let home = settle(self.realm.empty(&name), host);
                home.init();
                home
            }
            Invited::Member { by } => {
                let home = settle(self.realm.empty(&name), host);
                home.join(&self.gateway(by).invite(&name));
                home
            }
            Invited::Device { by } => self.enrol_device(by, "two", host),
        }
    }

    #[track_caller]
    fn enrol_device(&self, by: usize, label: &str, host: Option<&Host>) -> Home {
        let made = self.gateway(by).run(&["device", "invite"]).success();
        let home = settle(self.realm.empty(&format!("m{by:02}{label}")), host);
        let line = format!("{}\n", last_line(&made));
        let _ = home.run_with(&["join", "-", "--device", label], line.as_bytes()).success();
        home
    }

    /// A further device of the member `by`, on the same host, and its number.
    ///
    /// # Panics
    /// When it cannot join.
    #[track_caller]
    pub fn add_device(&mut self, by: usize, label: &str) -> usize {
        let host = self.residents[by].host.clone();
        let home = self.enrol_device(by, label, host.as_ref());
        self.move_in(home, host)
    }

    #[track_caller]
    fn move_in(&mut self, home: Home, host: Option<Host>) -> usize {
        let index = self.residents.len();
        let (echo, paced) = match &host {
            Some(host) => (host.enter(TcpOrigin::echo), host.enter(paced::origin)),
            None => (TcpOrigin::echo(), paced::origin()),
        };
        let mut up =
            Up::default().expose(port::ECHO, echo.address()).expose(port::PACED, paced.address());
        if host.is_some() {
            up = up.listen(format!("0.0.0.0:{}", OVERLAY_PORT + index));
            up.proxy = vec![format!("127.0.0.1:{}", PROXY_PORT + index)];
        }
        let gateway = home.up(&up);
        // It is found where it was when it is started again.
        let up = if host.is_none() { up.listen(gateway.overlay()) } else { up };
        self.residents.push(Resident { gateway, up, host, echo, _paced: paced });
        self.living.insert(index);
        index
    }

    #[track_caller]
    fn appoint_registrar(&self, index: usize) {
        let backup = self.gateway(0).run(&["realm", "backup"]).success();
        let _ = self.gateway(index).run_with(&["realm", "restore"], &backup.stdout).success();
    }

    /// The gateway with this number.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn gateway(&self, index: usize) -> &Gateway {
        &self.residents[index].gateway
    }

    /// The name of its device, for example `two.m01.cloak`.
    #[must_use]
    pub fn name(&self, index: usize) -> String {
        self.gateway(index).device_name().to_owned()
    }

    /// Numbers of the gateways that run.
    #[must_use]
    pub fn living(&self) -> Vec<usize> {
        self.living.iter().copied().collect()
    }

    /// The gateways that run.
    #[must_use]
    pub fn gateways(&self) -> Vec<&Gateway> {
        self.living.iter().map(|index| self.gateway(*index)).collect()
    }

    /// Connections that a gateway's echo has served.
    #[must_use]
    pub fn served(&self, index: usize) -> u64 {
        self.residents[index].echo.accepted()
    }

    /// `kill -9`.
    pub fn crash(&mut self, index: usize) {
        self.residents[index].gateway.crash();
        self.living.remove(&index);
    }

    /// `cloak stop`.
    #[track_caller]
    pub fn stop(&mut self, index: usize) {
        self.residents[index].gateway.stop();
        self.living.remove(&index);
    }

    /// Starts a gateway again at the address where it was.
    #[track_caller]
    pub fn start_again(&mut self, index: usize) {
        let resident = &mut self.residents[index];
        resident.gateway = resident.gateway.home().clone().up(&resident.up);
        self.living.insert(index);
    }

    /// A stream from the gateway `at` to a service of `name`.
    ///
    /// # Errors
    /// The proxy's reply.
    pub fn open(&self, at: usize, name: &str, port: u16) -> Result<TcpStream, Refused> {
        let proxy = self.gateway(at).proxy();
        self.on_host_of(at, move || client::socks5(proxy, name, port))
    }

    /// The same, as soon as there is a way.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn reach(&self, at: usize, name: &str, port: u16) -> TcpStream {
        let what = format!("{} reaches {name}", self.name(at));
        wait_for(&what, REACHED_WITHIN, || self.open(at, name, port).ok())
    }

    /// A paced load from the gateway `at` to `name`.
    ///
    /// # Panics
    /// When there is no way.
    #[track_caller]
    #[must_use]
    pub fn load(&self, at: usize, name: &str, rate: u64, span: Duration) -> Load {
        Load::over(self.reach(at, name, port::PACED), rate, span)
    }

    fn on_host_of<T: Send>(&self, index: usize, run: impl FnOnce() -> T + Send) -> T {
        match &self.residents[index].host {
            Some(host) => host.enter(run),
            None => run(),
        }
    }

    /// Where a gateway accepts transports.
    #[must_use]
    pub fn overlay(&self, index: usize) -> SocketAddr {
        self.gateway(index).overlay()
    }

    /// Whether all that run are one overlay.
    #[must_use]
    pub fn is_one_overlay(&self) -> bool {
        is_one_overlay(&self.gateways())
    }

    /// Waits until those that run, called `who`, are one overlay, and returns how long that took.
    ///
    /// # Panics
    /// With everybody's place when they are none `within` the time allowed.
    #[track_caller]
    pub fn assert_one_overlay(&self, who: &str, within: Duration) -> Duration {
        let start = now();
        while !self.is_one_overlay() {
            if start.elapsed() >= within {
                let place =
                    |gateway: &&Gateway| (gateway.device_name().to_owned(), Place::of(gateway));
                let places: BTreeMap<_, _> = self.gateways().iter().map(place).collect();
                panic!("waited {within:?} in vain: {who} are one overlay\n{places:#?}");
            }
            pause(POLL);
        }
        start.elapsed()
    }

    /// Asserts that every question has an answer within `within` from `since` on.
    ///
    /// # Panics
    /// With the first that has none.
    #[track_caller]
    pub fn assert_resolve(&self, questions: &[Question], since: Instant, within: Duration) {
        side_by_side(questions, |Question { at, name }| {
            let gateway = self.gateway(*at);
            while !gateway.resolves(name) {
                if since.elapsed() >= within {
                    let answer = gateway.run(&["resolve", name]);
                    panic!(
                        "{} does not resolve {name} {within:?} after: {answer:?}",
                        self.name(*at)
                    );
                }
                pause(POLL);
            }
        });
    }
}

fn settle(home: Home, host: Option<&Host>) -> Home {
    match host {
        Some(host) => home.on(host),
        None => home,
    }
}

/// Runs `work` on every item, several at a time.
///
/// # Panics
/// When `work` does.
pub fn side_by_side<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::SeqCst)) {
                    work(item);
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_invites_whom_is_a_chain() {
        let invited: Vec<Invited> = (0..14).map(invited).collect();
        let (member, device) = (|by| Invited::Member { by }, |by| Invited::Device { by });
        let first = [member(0), device(1), member(0), member(0), device(4), member(0), member(0)];
        let next = [device(7), member(6), member(6), device(10), member(6), member(6)];
        assert_eq!(invited, [&[Invited::Founder][..], &first, &next].concat());
    }
}
