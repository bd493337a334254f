use std::cell::{Cell, RefCell};
use std::io::ErrorKind;

use super::*;
use crate::HANDSHAKE_TIMEOUT;
use crate::clock::PausedClock;

const HOUR: Duration = Duration::from_secs(3600);
const REFUSED: DialError = DialError::Io(ErrorKind::ConnectionRefused);

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}

/// A schedule in paused time, and a record of its dials.
struct World {
    clock: Arc<PausedClock>,
    schedule: Schedule,
    dialled: RefCell<Vec<(Instant, SocketAddr)>>,
    live: Cell<usize>,
    most_live: Cell<usize>,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(PausedClock::start());
        let schedule = Schedule::new(clock.clone(), Rng::from_u64(seed));
        Self {
            clock,
            schedule,
            dialled: RefCell::default(),
            live: Cell::default(),
            most_live: Cell::default(),
        }
    }

    /// Runs for `span` of time against a network where `answer` says what an address does.
    async fn run(
        &mut self,
        span: Duration,
        locators: &[SocketAddr],
        answer: impl AsyncFn(SocketAddr) -> Result<SocketAddr, DialError>,
    ) -> Option<SocketAddr> {
        let Self { clock, schedule, dialled, live, most_live } = self;
        let dial = |addr| {
            dialled.borrow_mut().push((clock.now(), addr));
            let guard = Live::enter(live);
            most_live.set(most_live.get().max(live.get()));
            let answer = &answer;
            async move {
                let _guard = guard;
                tokio::time::timeout(HANDSHAKE_TIMEOUT, answer(addr))
                    .await
                    .unwrap_or(Err(DialError::Timeout))
            }
        };
        tokio::time::timeout(span, schedule.run(|| locators.to_vec(), dial)).await.ok()
    }

    fn take_dials(&self) -> Vec<(Instant, SocketAddr)> {
        self.dialled.take()
    }
}

struct Live<'a>(&'a Cell<usize>);

impl<'a> Live<'a> {
    fn enter(live: &'a Cell<usize>) -> Self {
        live.set(live.get() + 1);
        Self(live)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn black_hole(_: SocketAddr) -> Result<SocketAddr, DialError> {
    std::future::pending().await
}

async fn refuse(_: SocketAddr) -> Result<SocketAddr, DialError> {
    Err(REFUSED)
}

fn gaps(dials: &[(Instant, SocketAddr)]) -> Vec<u64> {
    dials.windows(2).map(|pair| millis(pair[1].0.since(pair[0].0))).collect()
}

#[test]
fn intervals_grow_with_the_age_of_the_outage() {
    let (mut retry, mut rng) = (Retry::default(), Rng::from_u64(1));
    let start = Instant::from_micros(1 << 40);
    let mut interval = |age: Duration| {
        let now = start + age;
        millis(retry.next(now, &mut rng).since(now))
    };
    assert!((200..400).contains(&interval(Duration::ZERO)));
    assert!((200..400).contains(&interval(YOUNG - Duration::from_secs(1))));
    assert!((1600..2400).contains(&interval(YOUNG)));
    assert!((1600..2400).contains(&interval(HOUR - Duration::from_secs(1))));
    assert!((24_000..36_000).contains(&interval(HOUR)));
    assert!((24_000..36_000).contains(&interval(HOUR * 72)));
    retry.reset();
    let now = start + HOUR * 80;
    assert!((200..400).contains(&millis(retry.next(now, &mut rng).since(now))));
}

#[tokio::test(start_paused = true)]
async fn backoff_is_reset_by_network_change_and_wake() {
    let mut world = World::new(7);
    let hurry = world.schedule.hurry.clone();
    assert_eq!(world.run(2 * HOUR, &[addr(1)], black_hole).await, None);
    let last = world.take_dials();
    assert!(gaps(&last).last().unwrap() > &20_000, "nobody expects an answer any more");

    hurry.now();
    let before = world.clock.now();
    assert_eq!(world.run(Duration::from_secs(60), &[addr(1)], black_hole).await, None);
    let dials = world.take_dials();
    assert!(dials[0].0.since(before) < Duration::from_millis(5), "at once");
    assert!(gaps(&dials).iter().all(|gap| (199..=402).contains(gap)), "{:?}", gaps(&dials));
}

#[tokio::test(start_paused = true)]
async fn no_retry_storm() {
    let mut world = World::new(7);
    // A thousand sessions wait behind this one schedule.
    let minute = Duration::from_secs(60);
    assert_eq!(world.run(minute, &[addr(1), addr(2)], black_hole).await, None);
    assert_eq!(world.most_live.get(), 2, "one fast, one patient");
    assert_eq!(world.live.get(), 0, "dropped with the future");
    let dials = world.take_dials().len();
    assert!((150..=300).contains(&dials), "{dials}");

    // A refusal does not spin: each locator once a tick.
    assert_eq!(world.run(minute, &[addr(1), addr(2)], refuse).await, None);
    let dials = world.take_dials();
    assert!((300..=600).contains(&dials.len()), "{}", dials.len());

    // A peer that accepts and hangs up is not dialled in a loop.
    let accept = async |addr| Ok(addr);
    let start = world.clock.now();
    for _ in 0..20 {
        assert!(world.run(minute, &[addr(1)], accept).await.is_some());
    }
    assert!(world.clock.now().since(start) >= Duration::from_millis(19 * 200));

    // No locators, no dials.
    world.take_dials();
    assert_eq!(world.run(minute, &[], black_hole).await, None);
    assert_eq!(world.take_dials(), []);
}

#[tokio::test(start_paused = true)]
async fn devices_are_not_in_step() {
    let ticks = |seed| {
        let (mut retry, mut rng) = (Retry::default(), Rng::from_u64(seed));
        let mut at = Instant::ZERO;
        (0..10)
            .map(|_| {
                at = retry.next(at, &mut rng);
                at
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(ticks(1), ticks(1));
    assert!(ticks(1).iter().zip(ticks(2)).all(|(a, b)| *a != b));
}

#[tokio::test(start_paused = true)]
async fn a_path_that_comes_back_is_found_within_one_interval() {
    let mut world = World::new(7);
    let clock = world.clock.clone();
    let back = clock.now() + Duration::from_secs(30);
    let answer = async |addr| {
        // What was sent into the hole stays lost: only an attempt that starts later gets through.
        if clock.now() < back {
            return black_hole(addr).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(addr)
    };
    assert_eq!(world.run(HOUR, &[addr(1)], answer).await, Some(addr(1)));
    let late = millis(world.clock.now().since(back));
    assert!(late <= 400 + 20 + 5, "{late} ms");
}

#[tokio::test(start_paused = true)]
async fn a_slow_path_gets_the_time_it_needs() {
    // Four seconds: no fast attempt lives that long. The other locator is dead and must not have
    // the patient slot twice in a row.
    let answer = async |to: SocketAddr| {
        if to == addr(1) {
            return black_hole(to).await;
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        Ok(to)
    };
    for seed in 0..20 {
        let mut world = World::new(seed);
        assert_eq!(world.run(HOUR, &[addr(1), addr(2)], answer).await, Some(addr(2)));
        let took = world.clock.now().since(Instant::ZERO);
        assert!(took < HANDSHAKE_TIMEOUT + Duration::from_secs(6), "{took:?} with seed {seed}");
    }

    // With a known round-trip time the fast attempt waits as long.
    let mut world = World::new(7);
    world.schedule.rtt = Some(Duration::from_secs(1));
    world.run(Duration::from_secs(20), &[addr(1)], black_hole).await;
    assert!(gaps(&world.take_dials()).iter().all(|gap| *gap >= 3100));
}

#[tokio::test(start_paused = true)]
async fn a_refused_locator_makes_room_for_the_next_at_once() {
    let mut world = World::new(7);
    let answer = async |to: SocketAddr| if to == addr(4) { Ok(to) } else { Err(REFUSED) };
    let all = [addr(1), addr(2), addr(3), addr(4)];
    assert_eq!(world.run(HOUR, &all, answer).await, Some(addr(4)));
    assert!(world.clock.now().since(Instant::ZERO) < Duration::from_millis(50));
}
