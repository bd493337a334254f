//! The containers of `docker/`, built and run with the real engine as the guide prints it.
//!
//! Where no image registry is reachable, `docker/local-images` makes the base images. An image takes longer
//! to build than all other tests to run, so this is part of the long runs (`CLOAK_FULL=1`) only.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::OnceLock;
use std::time::Duration;

use cloak_tests::clock::{self, wait_for, wait_until};
use cloak_tests::engine::{CALL_WITHIN, Download, PROJECT_WITHIN, Project, docker};
use cloak_tests::images::{BUILD_WITHIN, CLOAK, Images};
use cloak_tests::need;
use cloak_tests::printed;
use cloak_tests::skip::Need;
use cloak_tests::slots::Slot;
use serde_json::Value;

const GATEWAYS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];
const RELAYS: [&str; 2] = ["carol", "dave"];
/// Containers on two busy cores start, link and find each other again within this time.
const SOON: Duration = Duration::from_secs(120);
/// A download goes on within this time after a relay died or a network came back.
const RESCUED_WITHIN: Duration = Duration::from_secs(30);
/// What `web` serves.
const NUMBERS: u64 = 200_000_000;
/// What must come between two faults: more than sockets and buffers on the way can hold.
const MOVING: u64 = 8_000_000;
/// What comes to a relay that carries the download, and never to an idle one.
const CARRIED: u64 = 2_000_000;
/// Bytes a second while there are faults, which leaves them 200 s.
const SLOWLY: u64 = 1_000_000;
/// A whole download, through a gateway that was not built for speed.
const DOWNLOAD_WITHIN: Duration = Duration::from_secs(180);
/// The program and its user, over the base image. The dev profile's program is thrice as large.
const SMALL: u64 = 60_000_000;

fn line(start: &str) -> String {
    printed::line("docs/guide/containers.md", start)
}

/// Builds as the guide says, once for all tests here.
fn image() -> &'static Images {
    static BUILT: OnceLock<()> = OnceLock::new();
    let images = Images::get();
    BUILT.get_or_init(|| {
        let start = clock::now();
        let _ = Project::new(images).run(&line("docker-compose build"), BUILD_WITHIN).success();
        println!("built in {:?}", start.elapsed());
        images.keep_stages();
    });
    images
}

/// The five gateways, up and healthy.
fn up() -> Project {
    let project = Project::new(image());
    let _ = project.run(&line("docker-compose up"), PROJECT_WITHIN).success();
    for service in GATEWAYS.iter().chain(&["web"]) {
        wait_until(&format!("{service} is healthy"), SOON, || project.health(service) == "healthy");
    }
    project
}

fn names_resolve_from_each(project: &Project) {
    for from in GATEWAYS {
        for name in GATEWAYS {
            let resolve = ["cloak", "resolve", &format!("{name}.cloak")];
            wait_until(&format!("{from} knows {name}"), SOON, || {
                project.exec(from, &resolve).code == Some(0)
            });
        }
    }
}

fn rows(project: &Project, gateway: &str, command: &str) -> Vec<Value> {
    project.ask(gateway, &[command]).and_then(|rows| rows.as_array().cloned()).unwrap_or_default()
}

/// Waits until a relay has links to both ends, so that the other one may go.
fn wait_linked(project: &Project, relay: &str) {
    for end in ["alice", "bob"] {
        wait_until(&format!("{end} and {relay} are linked"), SOON, || {
            rows(project, end, "peers").iter().any(|row| {
                row["name"].as_str().is_some_and(|name| name.ends_with(&format!(".{relay}.cloak")))
                    && row["link"] == "direct"
                    && row["is_relay"] == true
            })
        });
    }
}

fn circuits(project: &Project, relay: &str) -> u64 {
    project.ask(relay, &["status"]).and_then(|status| status["circuits"].as_u64()).unwrap_or(0)
}

/// Bytes that have come to a container.
fn received(project: &Project, service: &str) -> u64 {
    let all = "cat /sys/class/net/*/statistics/rx_bytes";
    let text = project.exec(service, &["sh", "-c", all]).success().text();
    text.lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

/// The relay that the download goes through. Circuits do not tell: an idle one counts too.
fn carrying(project: &Project) -> &'static str {
    let before = RELAYS.map(|relay| received(project, relay));
    wait_for("a relay carries the download", SOON, || {
        RELAYS.into_iter().zip(before).find_map(|(relay, before)| {
            (received(project, relay) > before + CARRIED).then_some(relay)
        })
    })
}

/// How often alice's session that goes on was resumed.
fn resumes(project: &Project) -> Option<u64> {
    let sessions = rows(project, "alice", "sessions");
    let live = sessions.iter().filter(|session| session["state"] == "live");
    live.filter_map(|session| session["resumes"].as_u64()).max()
}

fn assert_lane(project: &Project, lane: &str) {
    wait_until(&format!("the session rides on a {lane}"), SOON, || {
        let sessions = rows(project, "alice", "sessions");
        sessions.iter().any(|row| row["state"] == "live" && row["lane"] == lane)
    });
}

/// Whether a container can open a TCP connection to a gateway's overlay port.
fn reaches(project: &Project, from: &str, address: &str) -> bool {
    let connect = format!("exec 3<>/dev/tcp/{address}/7140");
    project.exec(from, &["timeout", "3", "bash", "-c", &connect]).code == Some(0)
}

fn only_relays_lead_to_bob(project: &Project) {
    assert!(reaches(project, "alice", &project.address("carol", "front")), "the way to a relay");
    assert!(reaches(project, "carol", &project.address("bob", "back")), "and from it to bob");
    assert!(!reaches(project, "alice", &project.address("bob", "back")), "but none to bob");
    assert!(!reaches(project, "alice", &project.address("carol", "back")), "nor into his network");
}

/// The numbers as the guide has the reader sum them.
fn sum_of_numbers() -> &'static str {
    static SUM: OnceLock<String> = OnceLock::new();
    SUM.get_or_init(|| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &line("seq 100000000")]);
        let text = cloak_tests::process::run(command, b"", CALL_WITHIN).success().text();
        text.split(' ').next().unwrap().to_owned()
    })
}

/// The guide's download, summed here.
fn slow_download(project: &Project) -> Download {
    let printed = line("docker-compose run");
    let download = printed.strip_suffix(" | sha256sum").unwrap();
    Download::start(project.shell(&format!("exec {download}")), SLOWLY)
}

fn a_relay_dies(project: &Project, download: &Download) {
    let (kill, start) = (line("docker-compose kill"), line("docker-compose start"));
    for round in 0..2 {
        let relay = carrying(project);
        let before = resumes(project);
        assert!(before.is_some(), "the session is live");
        assert!(circuits(project, relay) > 0, "{relay} relays");
        println!("round {round}: {relay} dies");
        let _ = project.run(&kill.replace("carol", relay), CALL_WITHIN).success();
        wait_until("the session is resumed", RESCUED_WITHIN, || resumes(project) > before);
        download.goes_on("a relay died", MOVING, RESCUED_WITHIN);
        assert_lane(project, "relay");
        let _ = project.run(&start.replace("carol", relay), CALL_WITHIN).success();
        wait_linked(project, relay);
        download.goes_on("it is back", MOVING / 10, RESCUED_WITHIN);
    }
}

/// How the session goes on is not asked: on the lane that was silent if it outlived that, else on another.
fn a_network_is_gone_for_a_while(project: &Project, download: &Download) {
    let (cut, mend) = (line("docker network disconnect"), line("docker network connect"));
    for (network, gateway) in [("front", "alice"), ("back", "bob")] {
        let there = |line: &str| line.replace("front", network).replace("alice", gateway);
        let _ = project.run(&there(&cut), CALL_WITHIN).success();
        wait_until("the session is suspended", SOON, || {
            let sessions = rows(project, gateway, "sessions");
            sessions.iter().any(|row| row["state"] == "suspended")
        });
        let _ = project.run(&there(&mend), CALL_WITHIN).success();
        download.goes_on("the network is back", MOVING, RESCUED_WITHIN);
    }
}

/// Nothing that could be redeemed is left, and nothing of it was ever shown.
fn no_invitation_is_left(project: &Project) {
    let find = ["find", "/run/invitations", "-type", "f", "-size", "+0"];
    assert_eq!(project.exec("erin", &find).success().text(), "");
    let all = ["sh", "-c", "ls /run/invitations"];
    assert_eq!(project.exec("erin", &all).success().text(), "alice\nbob\ndave\nerin\n");
}

fn down(project: Project) {
    let _ = project.run(&line("docker-compose stop"), PROJECT_WITHIN).success();
    let _ = project.run(&line("docker-compose down"), PROJECT_WITHIN).success();
    for (kind, every) in [("container", &["--all"][..]), ("network", &[]), ("volume", &[])] {
        assert_eq!(project.ids(kind, every), Vec::<String>::new(), "{kind}s are left");
    }
}

#[test]
fn a_download_from_behind_a_relay_survives_networks_and_relays() {
    need!(Need::FullRun, "debootstrap", Need::Engine, Need::Root);
    let _slot = Slot::take_all();
    let project = up();
    names_resolve_from_each(&project);
    only_relays_lead_to_bob(&project);
    no_invitation_is_left(&project);
    RELAYS.iter().for_each(|relay| wait_linked(&project, relay));

    let whole = project.run(&line("docker-compose run"), DOWNLOAD_WITHIN).success();
    assert_eq!(whole.text().split(' ').next(), Some(sum_of_numbers()));

    let download = slow_download(&project);
    download.goes_on("it begins", MOVING, SOON);
    assert_lane(&project, "relay");
    a_relay_dies(&project, &download);
    a_network_is_gone_for_a_while(&project, &download);
    assert_eq!(download.finish(DOWNLOAD_WITHIN), (NUMBERS, sum_of_numbers().to_owned()));

    // A second start changes nothing: the realm is there.
    let _ = project.run(&line("docker-compose up"), PROJECT_WITHIN).success();
    names_resolve_from_each(&project);
    let logs = project.run(&line("docker-compose logs"), CALL_WITHIN).success().text();
    assert!(logs.contains("ready proxy=127.0.0.1:1080"), "{logs}");
    down(project);
}

#[test]
fn the_image_is_small_and_its_user_is_nobody() {
    need!(Need::FullRun, "debootstrap", Need::Engine, Need::Root);
    let _slot = Slot::take_all();
    let images = image();
    let base = images.environment().iter().find(|(name, _)| name == "RUN_IMAGE");
    let base = base.map_or("debian:bookworm-slim", |(_, image)| image);
    let size = |image: &str| -> u64 {
        let inspect = ["image", "inspect", "--format", "{{.Size}}", image];
        docker(&inspect, CALL_WITHIN).success().text().trim().parse().unwrap()
    };
    let own = size(CLOAK) - size(base);
    println!("{own} bytes over the base image");
    assert!(own < SMALL, "{own} bytes over the base image");
    let inside = |program: &str, arguments: &[&str]| {
        let run = ["run", "--rm", "--network", "none", "--entrypoint", program, CLOAK];
        docker(&[&run[..], arguments].concat(), CALL_WITHIN)
    };
    assert_eq!(inside("id", &["-un"]).success().text(), "cloak\n");
    assert_eq!(inside("stat", &["-c", "%U %a", "/var/lib/cloak"]).success().text(), "cloak 700\n");
    // What the health check asks: a gateway that does not run is not healthy.
    let _ = inside("cloak", &["status"]).exits(3);
}
