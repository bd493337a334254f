//! A [`Pair`] whose bob exposes every kind of backend that the tests use.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::gateway::Up;
use crate::origin::{HttpOrigin, TcpOrigin};
use crate::paced;
use crate::pair::Pair;
use crate::pattern::Pattern;
use crate::realm::Realm;

/// Service ports of bob.
pub mod port {
    /// [`crate::origin::HttpOrigin`].
    pub const HTTP: u16 = 80;
    /// The same again, at another port.
    pub const HTTP_AGAIN: u16 = 8080;
    /// Sends back what comes.
    pub const ECHO: u16 = 7;
    /// Hashes to the end, then answers.
    pub const SINK: u16 = 9;
    /// Sends [`super::SOURCE_BYTES`] and closes at once.
    pub const SOURCE: u16 = 19;
    /// Says `bye`, ends its direction, reads on.
    pub const CLOSES_FIRST: u16 = 20;
    /// Says `ready`, then resets after one byte.
    pub const RESETS: u16 = 21;
    /// [`crate::paced`].
    pub const PACED: u16 = 5001;
    /// A tick every [`super::TICK`].
    pub const TICKS: u16 = 5002;
    /// Accepts, reads nothing.
    pub const STUCK: u16 = 5003;
    /// Nobody listens at the target.
    pub const DEAD: u16 = 6666;
    /// Nothing is exposed here.
    pub const NONE: u16 = 6667;
}

/// Bytes of [`port::SOURCE`].
pub const SOURCE_BYTES: usize = 1_000_000;
/// What [`port::SOURCE`] sends.
pub const SOURCE: Pattern = Pattern::new(19);
/// Period of [`port::TICKS`].
pub const TICK: Duration = Duration::from_millis(5);

/// The backends.
#[derive(Debug)]
pub struct Services {
    /// At [`port::HTTP`] and [`port::HTTP_AGAIN`].
    pub http: HttpOrigin,
    /// At [`port::ECHO`].
    pub echo: TcpOrigin,
    /// At [`port::SINK`].
    pub sink: TcpOrigin,
    /// At [`port::SOURCE`].
    pub source: TcpOrigin,
    /// At [`port::CLOSES_FIRST`].
    pub closes_first: TcpOrigin,
    /// At [`port::RESETS`].
    pub resets: TcpOrigin,
    /// At [`port::PACED`].
    pub paced: TcpOrigin,
    /// At [`port::TICKS`].
    pub ticks: TcpOrigin,
    /// At [`port::STUCK`].
    pub stuck: TcpOrigin,
}

impl Services {
    /// Starts them.
    #[must_use]
    pub fn start() -> Self {
        Self {
            http: HttpOrigin::start(),
            echo: TcpOrigin::echo(),
            sink: TcpOrigin::sink(),
            source: TcpOrigin::source(SOURCE, SOURCE_BYTES),
            closes_first: TcpOrigin::closes_first(),
            resets: TcpOrigin::resets_after_one_byte(),
            paced: paced::origin(),
            ticks: TcpOrigin::ticker(TICK),
            stuck: TcpOrigin::stuck(),
        }
    }

    /// The command line that exposes them.
    #[must_use]
    pub fn up(&self) -> Up {
        Up::default()
            .expose(port::HTTP, self.http.address())
            .expose(port::HTTP_AGAIN, self.http.address())
            .expose(port::ECHO, self.echo.address())
            .expose(port::SINK, self.sink.address())
            .expose(port::SOURCE, self.source.address())
            .expose(port::CLOSES_FIRST, self.closes_first.address())
            .expose(port::RESETS, self.resets.address())
            .expose(port::PACED, self.paced.address())
            .expose(port::TICKS, self.ticks.address())
            .expose(port::STUCK, self.stuck.address())
            .expose(port::DEAD, closed_address())
    }
}

/// Gateways and backends.
#[derive(Debug)]
pub struct Site {
    /// The gateways. First, so that they end before their backends.
    pub pair: Pair,
    /// The backends.
    pub services: Services,
}

impl Site {
    /// One of its own, beside other tests.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        Self::within(Realm::new())
    }

    /// One of its own, with no other test beside it: for tests that measure time.
    #[track_caller]
    #[must_use]
    pub fn alone() -> Self {
        Self::within(Realm::alone())
    }

    /// One with a `config.toml` for each of the gateways.
    #[track_caller]
    #[must_use]
    pub fn configured(alice_toml: &str, bob_toml: &str) -> Self {
        let services = Services::start();
        let up = services.up();
        Self { pair: Pair::start_configured(Realm::new(), &up, alice_toml, bob_toml), services }
    }

    /// One for tests that inject no faults: all of a suite that run at the same time share it, and the
    /// last to end takes it down.
    #[track_caller]
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Site>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let site = Arc::new(Self::start());
            *shared = Arc::downgrade(&site);
            site
        })
    }

    fn within(realm: Realm) -> Self {
        let services = Services::start();
        let up = services.up();
        Self { pair: Pair::start(realm, &up), services }
    }
}

impl Deref for Site {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        &self.pair
    }
}

/// An address at which nobody listens any more.
fn closed_address() -> std::net::SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("a bound listener has an address")
}
