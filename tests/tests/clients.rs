//! Real client programs through real gateways.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cloak_tests::binary;
use cloak_tests::client;
use cloak_tests::clock::{every, wait_until};
use cloak_tests::gateway::Up;
use cloak_tests::need;
use cloak_tests::origin::{HttpOrigin, TcpOrigin, WebSocketClient};
use cloak_tests::pair::{End, Pair};
use cloak_tests::pattern::{Pattern, Sha256};
use cloak_tests::process::{self, Finished, Owned};
use cloak_tests::realm::Realm;
use cloak_tests::site::{SOURCE_BYTES, Site, port};
use cloak_tests::skip::program;

const CLIENT_WITHIN: Duration = Duration::from_secs(60);
const LARGE: u64 = 5_000_000;

fn run(name: &str, arguments: &[&str]) -> Finished {
    run_with(name, arguments, b"")
}

fn run_with(name: &str, arguments: &[&str], input: &[u8]) -> Finished {
    let mut command = Command::new(program(name).unwrap());
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().to_lowercase().ends_with("_proxy") {
            command.env_remove(key);
        }
    }
    command.args(arguments);
    process::run(command, input, CLIENT_WITHIN)
}

/// curl with the ways of using the proxy that people use.
fn proxy_flags(site: &Site) -> [(&'static str, Vec<String>); 4] {
    let proxy = site.alice.proxy();
    [
        ("socks5h", vec!["--proxy".to_owned(), format!("socks5h://{proxy}")]),
        ("socks4a", vec!["--proxy".to_owned(), format!("socks4a://{proxy}")]),
        ("http", vec!["--proxy".to_owned(), format!("http://{proxy}")]),
        (
            "connect",
            vec!["--proxy".to_owned(), format!("http://{proxy}"), "--proxytunnel".to_owned()],
        ),
    ]
}

fn curl(flags: &[String], arguments: &[&str]) -> Finished {
    let mut all = vec!["--silent", "--show-error", "--fail", "--max-time", "50"];
    all.extend(flags.iter().map(String::as_str));
    all.extend(arguments);
    run("curl", &all)
}

fn sha256(bytes: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(bytes);
    digest.finish()
}

#[test]
fn curl_downloads_in_every_way() {
    need!("curl");
    let site = Site::shared();
    for (way, flags) in proxy_flags(&site) {
        for path in [format!("/bytes/{LARGE}"), format!("/bytes/{LARGE}?chunked=1")] {
            let url = format!("http://bob.cloak{path}");
            let finished = curl(&flags, &[&url]).success();
            assert_eq!(sha256(&finished.stdout), HttpOrigin::sha256(LARGE), "{way} {path}");
        }
    }
}

#[test]
fn curl_uploads_in_every_way() {
    need!("curl");
    let site = Site::shared();
    let file = site.realm.directory().join("upload");
    fs::write(&file, Pattern::new(9).bytes(3_000_000)).unwrap();
    let file = file.to_str().unwrap();
    let expected = format!("3000000 {}", Pattern::new(9).sha256(3_000_000));
    for (way, flags) in proxy_flags(&site) {
        let put = curl(&flags, &["--upload-file", file, "http://bob.cloak/hash"]).success();
        assert_eq!(put.text(), expected, "{way}: PUT");
        let data = format!("@{file}");
        let chunked = ["--header", "Transfer-Encoding: chunked", "--data-binary", &data];
        let post = curl(&flags, &[&chunked[..], &["http://bob.cloak/hash"]].concat()).success();
        assert_eq!(post.text(), expected, "{way}: chunked POST");
    }
}

#[test]
fn curl_waits_for_100_continue() {
    need!("curl");
    let site = Site::shared();
    let file = site.realm.directory().join("expected");
    fs::write(&file, Pattern::new(5).bytes(100_000)).unwrap();
    let data = format!("@{}", file.display());
    for (way, flags) in proxy_flags(&site) {
        let wait = ["--header", "Expect: 100-continue", "--expect100-timeout", "20", "--verbose"];
        let rest = ["--data-binary", data.as_str(), "http://bob.cloak/hash"];
        let finished = curl(&flags, &[&wait[..], &rest[..]].concat()).success();
        assert!(finished.text().starts_with("100000 "), "{way}: {}", finished.text());
        assert!(finished.stderr.contains("100 Continue"), "{way}: {}", finished.stderr);
    }
}

#[test]
fn curl_keeps_its_connection_alive() {
    need!("curl");
    let site = Site::start();
    for (way, flags) in proxy_flags(&site) {
        let before = site.services.http.accepted();
        let urls = ["http://bob.cloak/bytes/1000"; 5];
        let told = ["--write-out", "%{stderr}%{num_connects} "];
        let finished = curl(&flags, &[&told[..], &urls[..]].concat()).success();
        assert_eq!(finished.stdout.len(), 5000, "{way}");
        assert_eq!(finished.stderr.trim(), "1 0 0 0 0", "{way}: one connection to the proxy");
        assert_eq!(site.services.http.accepted() - before, 1, "{way}: one to the backend");
    }
}

#[test]
fn curl_is_told_why_it_is_refused() {
    need!("curl");
    let site = Site::shared();
    let [(_, socks), _, (_, http), _] = proxy_flags(&site);
    let _ = curl(&socks, &["http://nobody.cloak/"]).exits(97);
    let told = ["--dump-header", "-", "http://nobody.cloak/"];
    let finished = curl(&http, &told).exits(22);
    assert!(finished.text().to_lowercase().contains("cloak-error: unknown-name"));
}

fn proxychains(site: &Site) -> String {
    let proxy = site.alice.proxy();
    let path = site.realm.directory().join("proxychains.conf");
    let text = format!(
        "strict_chain\nproxy_dns\nquiet_mode\nremote_dns_subnet 224\n[ProxyList]\nsocks5 {} {}\n",
        proxy.ip(),
        proxy.port()
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// proxychains hands out addresses of 224.0.0.0/8 for names; the program below sees only those.
#[test]
fn ip_only_clients_work() {
    need!("proxychains4", "curl");
    let site = Site::shared();
    let config = proxychains(&site);
    let url = format!("http://bob.cloak/bytes/{LARGE}");
    let arguments = ["-f", &config, "curl", "--silent", "--fail", "--noproxy", "*", &url];
    let finished = run("proxychains4", &arguments).success();
    assert_eq!(sha256(&finished.stdout), HttpOrigin::sha256(LARGE));
}

/// A bare repository with some commits, ready to be cloned over plain HTTP.
fn repository(directory: &Path) {
    let work = directory.join("work");
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let _ = run("git", &[&identity[..], arguments].concat()).success();
    };
    let work_path = work.to_str().unwrap();
    git(&["init", "--quiet", "--initial-branch=main", work_path]);
    for index in 0..5 {
        fs::write(work.join("file"), Pattern::new(index).bytes(200_000)).unwrap();
        git(&["-C", work_path, "add", "file"]);
        git(&["-C", work_path, "commit", "--quiet", "-m", "change"]);
    }
    let bare = directory.join("repository.git");
    git(&["clone", "--quiet", "--bare", work_path, bare.to_str().unwrap()]);
    git(&["-C", bare.to_str().unwrap(), "update-server-info"]);
}

#[test]
fn proxychains_wraps_git_clone_over_http() {
    need!("proxychains4", "git");
    let site = Site::shared();
    let directory = site.realm.directory().join("git");
    fs::create_dir_all(&directory).unwrap();
    repository(&directory);
    let origin = HttpOrigin::with_files(&directory);
    let realm = Realm::new();
    let pair = Pair::start(realm, &Up::default().expose(80, origin.address()));
    let config = {
        let proxy = pair.alice.proxy();
        let path = directory.join("proxychains.conf");
        let list = format!("socks5 {} {}", proxy.ip(), proxy.port());
        fs::write(&path, format!("strict_chain\nproxy_dns\nquiet_mode\n[ProxyList]\n{list}\n"))
            .unwrap();
        path.to_str().unwrap().to_owned()
    };
    let clone = directory.join("clone");
    let to = clone.to_str().unwrap();
    let url = "http://bob.cloak/repository.git";
    let _ = run("proxychains4", &["-f", &config, "git", "clone", "--quiet", url, to]).success();
    assert_eq!(fs::read(clone.join("file")).unwrap(), Pattern::new(4).bytes(200_000));
    let fsck = run("git", &["-C", to, "fsck", "--strict"]).success();
    assert!(!fsck.text().contains("missing"), "{}", fsck.text());
    let proxy = format!("http.proxy=socks5h://{}", pair.alice.proxy());
    let again = directory.join("again");
    let _ = run("git", &["-c", &proxy, "clone", "--quiet", url, again.to_str().unwrap()]).success();
}

/// A real sshd on a port of its own, with keys made for the test.
struct Sshd {
    address: std::net::SocketAddr,
    key: String,
    _process: Owned,
}

fn sshd(directory: &Path) -> Sshd {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    for key in ["host_key", "user_key"] {
        let _ = run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]).success();
    }
    fs::copy(path("user_key.pub"), path("authorized_keys")).unwrap();
    let config = format!(
        "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
        path("host_key"),
        path("authorized_keys")
    );
    fs::write(path("sshd_config"), config).unwrap();
    // Where it keeps its privileges apart; Debian makes it at the service's start.
    let _ = fs::create_dir_all("/run/sshd");
    let mut command = Command::new(program("sshd").unwrap());
    command.args(["-D", "-e", "-f", &path("sshd_config")]);
    let process = Owned::start_group(command, &directory.join("sshd.log"));
    wait_until("sshd listens", Duration::from_secs(20), || TcpStream::connect(address).is_ok());
    Sshd { address, key: path("user_key"), _process: process }
}

fn ssh(pair: &Pair, sshd: &Sshd, remote: &str) -> Command {
    let mut command = Command::new(program("ssh").unwrap());
    let home = pair.alice.directory().display();
    let proxy = format!("{} --home {home} connect %h:%p", binary::cloak().display());
    command.args(["-F", "/dev/null", "-T", "-i", &sshd.key]);
    for option in [
        &*format!("ProxyCommand={proxy}"),
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "BatchMode=yes",
        "LogLevel=ERROR",
    ] {
        command.args(["-o", option]);
    }
    let user = run("id", &["-un"]).text();
    command.arg(format!("{}@bob.cloak", user.trim())).arg(remote);
    command
}

#[test]
fn ssh_survives_cuts_through_connect() {
    need!("ssh", "sshd", "ssh-keygen", cloak_tests::skip::Need::Root);
    let realm = Realm::new();
    let directory = realm.directory().to_path_buf();
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    let sshd = sshd(&directory);
    let pair = Pair::start(realm, &Up::default().expose(22, sshd.address));
    let quick = process::run(ssh(&pair, &sshd, "echo hello"), b"", CLIENT_WITHIN).success();
    assert_eq!(quick.text(), "hello\n");
    // A shell loop that a person would see stall: a number each 100 ms, while transports are cut.
    let mut counting = ssh(&pair, &sshd, "for i in $(seq 1 60); do echo $i; sleep 0.1; done");
    counting.stdin(Stdio::null()).stdout(Stdio::piped());
    let running = counting.spawn().unwrap();
    wait_until("the session is live", CLIENT_WITHIN, || {
        cloak_tests::pair::open_sessions(&pair.alice).iter().any(|row| row["port"] == 22)
    });
    every(Duration::from_millis(500), Duration::from_secs(5), || pair.cut());
    let output = running.wait_with_output().unwrap();
    let expected: String = (1..=60).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(output.status.success());
    // Upload through cat, so that both directions carry bulk.
    let bytes = Pattern::new(3).bytes(2_000_000);
    let back = process::run(ssh(&pair, &sshd, "cat"), &bytes, CLIENT_WITHIN).success();
    assert!(back.stdout == bytes, "what ssh carried came back changed");
}

#[test]
fn connect_carries_a_half_close() {
    let site = Site::shared();
    let bytes = Pattern::new(8).bytes(500_000);
    let finished = site.alice.run_with(&["connect", "bob.cloak:9"], &bytes).success();
    assert_eq!(finished.text(), format!("500000 {}", Pattern::new(8).sha256(500_000)));
    let _ = site.alice.run(&["connect", "nobody.cloak:9"]).exits(4);
}

/// A session that was reset or lost is a failure with one sentence, whatever came of it before.
#[test]
fn connect_tells_a_broken_end_from_an_orderly_one() {
    let mut site = Site::start();
    let service = |port: u16| format!("bob.cloak:{port}");
    let whole = site.alice.run(&["connect", &service(port::SOURCE)]).success();
    assert_eq!((whole.stdout.len(), whole.stderr.as_str()), (SOURCE_BYTES, ""));
    let connect = |port| {
        let mut command = site.alice.command(&["connect", &service(port)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut reset = connect(port::RESETS);
    let mut ready = [0; 5];
    reset.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready");
    // Said earlier, it would bring a reset that may overtake the greeting, as with any TCP connection.
    reset.stdin.take().unwrap().write_all(b"x").unwrap();
    let reset = reset.wait_with_output().unwrap();
    let said = String::from_utf8(reset.stderr).unwrap();
    assert_eq!((reset.status.code(), reset.stdout.len()), (Some(1), 0));
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.contains("broke off"), "{said}");

    let mut carried = connect(port::ECHO);
    carried.stdin.as_mut().unwrap().write_all(b"before").unwrap();
    carried.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    site.pair.bob.crash();
    site.pair.restart(End::Bob);
    // Its stdin stays open: the loss alone ends it.
    let mut carried = Owned::new(carried);
    let status = carried.wait(CLIENT_WITHIN).expect("a lost session ends what carries it");
    assert_eq!(status.code(), Some(1));
}

/// `cloak connect` that is killed is no end of the stream.
#[test]
fn a_killed_connect_resets_its_session() {
    let site = Site::start();
    let mut command = site.alice.command(&["connect", "bob.cloak:7"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut carried = command.spawn().unwrap();
    carried.stdin.as_mut().unwrap().write_all(b"half a").unwrap();
    carried.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    carried.kill().unwrap();
    carried.wait().unwrap();
    wait_until("the backend is reset", CLIENT_WITHIN, || site.services.echo.resets() == 1);
    site.wait_no_sessions(CLIENT_WITHIN);
}

#[test]
fn a_websocket_echo_survives_20_cuts() {
    let site = Site::start();
    let proxy = site.alice.proxy();
    let tunnels = [
        client::socks5(proxy, "bob.cloak", port::HTTP).unwrap(),
        client::connect(proxy, "bob.cloak", port::HTTP).unwrap(),
    ];
    let upgrade = |stream| WebSocketClient::upgrade(stream, "ws://bob.cloak/echo");
    let mut sockets: Vec<WebSocketClient> = tunnels.map(upgrade).into();
    let plain = client::dial(proxy).unwrap();
    sockets.push(WebSocketClient::forwarded(plain, "bob.cloak", "/echo"));
    for cut in 0..20 {
        site.wait_state("live", Duration::from_secs(10));
        // Sent into the cut: the answer comes all the same.
        pair_cut(&site, cut);
        for (index, socket) in sockets.iter_mut().enumerate() {
            socket.echoes(&format!("cut {cut} socket {index}"));
        }
    }
    for row in site.alice.sessions().iter().filter(|row| row["port"] == port::HTTP) {
        assert!(row["resumes"].as_u64().unwrap() >= 15, "{row}");
    }
    sockets.into_iter().for_each(WebSocketClient::close);
}

fn pair_cut(site: &Site, cut: u32) {
    site.cut();
    // Every other time the echo is asked only after both ends have noticed.
    if cut % 2 == 1 {
        let before = site.dials();
        wait_until("somebody dials again", Duration::from_secs(10), || site.dials() > before);
    }
}

#[test]
fn programs_that_know_no_proxy_are_served_by_a_unix_socket() {
    need!("curl");
    let realm = Realm::new();
    let socket = realm.directory().join("p.sock");
    let echo = TcpOrigin::echo();
    let site = HttpOrigin::start();
    let pair = Pair::start(
        realm,
        &Up::default().expose(80, site.address()).expose(port::ECHO, echo.address()),
    );
    let mut up = Up::default().advertise(pair.to_alice.address());
    up.proxy.push(format!("unix:{}", socket.display()));
    let Pair { mut alice, bob, to_alice, to_bob, realm } = pair;
    alice.stop();
    let alice = alice.home().clone().up(&up);
    to_alice.retarget(alice.overlay());
    let pair = Pair { alice, bob, to_alice, to_bob, realm };
    pair.wait_linked();
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only the same user may connect");
    let proxy = format!("socks5h://localhost{}", socket.display());
    let finished = curl(&["--proxy".to_owned(), proxy], &["http://bob.cloak/bytes/1000"]);
    assert_eq!(sha256(&finished.success().stdout), HttpOrigin::sha256(1000));
}
