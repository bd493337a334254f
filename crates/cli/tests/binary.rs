//! The binary as a script sees it: output, errors and exit codes that need no network.

#![expect(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A home that does not exist, or a fresh one with a `config.toml`.
struct Home(PathBuf);

impl Home {
    fn none() -> Self {
        Self("/nonexistent/cloak-home".into())
    }

    fn with_config(tag: &str, config: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cloak-cli-{tag}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("config.toml"), config).unwrap();
        Self(path)
    }

    fn run(&self, line: &str) -> Output {
        run_in(&self.0, line)
    }
}

fn run_in(home: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloak"))
        .args(line.split_whitespace())
        .env("CLOAK_HOME", home)
        .env_remove("CLOAK_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.0.starts_with(std::env::temp_dir()) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn version_and_help_go_to_stdout() {
    let home = Home::none();
    let version = home.run("--version");
    assert_eq!(code(&version), Some(0));
    assert_eq!(stdout(&version), format!("cloak {}\n", env!("CARGO_PKG_VERSION")));
    let help = home.run("--help");
    assert_eq!(code(&help), Some(0));
    for command in ["demo", "up", "sessions", "why", "doctor", "completions"] {
        assert!(stdout(&help).contains(&format!("\n  {command} ")), "{command}");
    }
}

#[test]
fn man_and_completions_need_no_home() {
    let home = Home::none();
    let man = stdout(&home.run("man"));
    assert!(man.starts_with(".ie") && man.contains("CLOAK UP") && man.contains("CLOAK DEMO"));
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&format!("completions {shell}"));
        assert_eq!(code(&script), Some(0), "{shell}");
        assert!(stdout(&script).contains("sessions"), "{shell}");
    }
}

#[test]
fn wrong_usage_is_2() {
    let home = Home::none();
    for line in ["", "fly", "up --proxy nowhere", "connect demo.cloak", "invite --ttl soon"] {
        assert_eq!(code(&home.run(line)), Some(2), "{line}");
    }
}

#[test]
fn no_gateway_is_3() {
    let home = Home::none();
    for line in [
        "status",
        "peers --json",
        "sessions",
        "sessions show 0a",
        "services",
        "names",
        "stop",
        "reload",
        "resolve demo.cloak",
        "why demo.cloak:80",
        "connect demo.cloak:80",
        "invite",
        "device list",
        "member list",
        "realm backup",
    ] {
        let output = home.run(line);
        assert_eq!(code(&output), Some(3), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        assert_eq!(
            stderr(&output),
            "cloak: no gateway is running for this home: start one with `cloak up`\n",
            "{line}"
        );
    }
}

#[test]
fn configuration_errors_are_2_with_line_and_column() {
    let home = Home::with_config("unknown", "[proxy]\nlisten = [\"127.0.0.1:0\"]\nport = 1\n");
    let output = home.run("up");
    assert_eq!(code(&output), Some(2));
    assert!(output.stdout.is_empty());
    let said = stderr(&output);
    let file = home.0.join("config.toml");
    assert!(said.starts_with(&format!("cloak: {}: TOML parse error", file.display())), "{said}");
    assert!(
        said.contains("at line 3, column 1") && said.contains("unknown field `port`"),
        "{said}"
    );

    let open = Home::with_config("open", "[proxy]\nlisten = [\"0.0.0.0:0\"]\n");
    let said = stderr(&open.run("up"));
    assert!(said.contains("line 2, column 11") && said.contains("users"), "{said}");
    assert_eq!(code(&open.run("up --config /nonexistent/file")), Some(2));
}

#[test]
fn an_empty_home_says_what_to_do() {
    let output = Home::none().run("up");
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("cloak init"), "{}", stderr(&output));
}

#[test]
fn doctor_works_without_a_gateway() {
    let output = Home::none().run("doctor --json");
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let find = |check: &str| {
        findings.as_array().unwrap().iter().find(|finding| finding["check"] == check).cloned()
    };
    assert_eq!(find("home").unwrap()["level"], "warn");
    assert_eq!(find("gateway").unwrap()["level"], "warn");
    assert!(find("descriptors").is_some() && find("clock").is_some());
}

#[test]
fn init_makes_a_private_home_once() {
    let home = Home::with_config("init", "");
    std::fs::set_permissions(&home.0, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let made = home.run("init --name alice --device laptop --json");
    assert_eq!(code(&made), Some(0), "{}", stderr(&made));
    let enrolled: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(enrolled["name"], "laptop.alice.cloak");
    assert_eq!(enrolled["home"].as_str().map(Path::new), Some(home.0.as_path()));
    let again = home.run("init --name alice");
    assert_eq!(code(&again), Some(1));
    assert!(stderr(&again).contains("already"), "{}", stderr(&again));
}

#[test]
fn status_works_when_descriptors_are_used_up() {
    let home = Home::with_config("descriptors", "");
    std::fs::set_permissions(&home.0, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(code(&home.run("init --name alice --device laptop")), Some(0));
    let up = "ulimit -n 64; exec \"$0\" up --proxy 127.0.0.1:0 --listen 127.0.0.1:0";
    let child = Command::new("sh")
        .args(["-c", up, env!("CARGO_BIN_EXE_cloak")])
        .env("CLOAK_HOME", &home.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut gateway = Running(child);
    let mut lines = BufReader::new(gateway.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let ready = lines.next().unwrap();
    let proxy = ready.strip_prefix("ready proxy=").unwrap().split(' ').next().unwrap().to_owned();

    let idle: Vec<_> = (0..100).map(|_| TcpStream::connect(&proxy).unwrap()).collect();
    for _ in 0..20 {
        assert_eq!(code(&home.run("status")), Some(0));
    }
    idle[0].set_nonblocking(true).unwrap();
    let held = idle[0].peek(&mut [0]).unwrap_err().kind();
    assert_eq!(held, std::io::ErrorKind::WouldBlock, "it did not wait until some were free");
    assert_eq!(code(&home.run("stop")), Some(0));
    assert_eq!(gateway.0.wait().unwrap().code(), Some(0));
    drop(idle);
}

/// A process that runs on; killed when a test fails before it ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_demo_serves_and_ends_cleanly() {
    let child = Command::new(env!("CARGO_BIN_EXE_cloak"))
        .args(["demo", "--peers", "2", "--proxy", "127.0.0.1:0", "--chaos", "50"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut demo = Running(child);
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let ready = lines.next().unwrap();
    let proxy = ready.strip_prefix("ready proxy=").unwrap().split(' ').next().unwrap().to_owned();
    let home = lines
        .find_map(|line| {
            Some(line.split_once("cloak --home ")?.1.split_once(" status")?.0.to_owned())
        })
        .unwrap();
    let home = PathBuf::from(home);

    let mut answer = Vec::new();
    let mut socket = TcpStream::connect(&proxy).unwrap();
    let request = "GET http://demo.cloak/bytes/3000000 HTTP/1.1\r\nHost: demo.cloak\r\n\
                   Connection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    socket.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let expected: Vec<u8> =
        (1..).flat_map(|n: u32| format!("{n}\n").into_bytes()).take(3_000_000).collect();
    assert!(answer.ends_with(&expected), "{} bytes", answer.len());

    let status = run_in(&home, "status --json");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (&status["name"], &status["overlay"]),
        (&"gateway.you.cloak".into(), &"linked".into())
    );

    let pid = rustix::process::Pid::from_child(&demo.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
    assert!(!home.exists(), "homes are removed");
}
