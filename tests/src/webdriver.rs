//! Headless Chromium by WebDriver: enough of the protocol to open pages and to look into them.

mod challenges;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::wait_for;
use crate::http::Request;
use crate::process::Owned;
use crate::skip::program;

pub use challenges::Challenges;

/// A cold start of the driver, on a machine that is busy with other tests.
const STARTED_WITHIN: Duration = Duration::from_secs(60);
/// The driver picks a port for IPv4 and ends when somebody has the same one on IPv6.
const DRIVER_STARTS: u32 = 3;
/// A page that loads longer counts as failed.
const PAGE_LOAD_MS: u64 = 20_000;

/// A browser with one window. Dropping it ends the browser and its driver.
#[derive(Debug)]
pub struct Browser {
    server: SocketAddr,
    session: String,
    /// Where the browser itself listens for `DevTools`.
    debugger: SocketAddr,
    _driver: Owned,
}

/// What WebDriver said instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl Browser {
    /// Starts one whose files are in `directory`; `proxy` is a URL such as `socks5://127.0.0.1:1080`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(directory: &Path, proxy: Option<&str>) -> Self {
        let (driver, port) = start_driver(directory);
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let mut browser =
            Self { server, session: String::new(), debugger: server, _driver: driver };
        let answer = browser.call("POST", "/session", &capabilities(directory, proxy));
        let answer = answer.unwrap_or_else(|Failure(why)| panic!("no browser: {why}"));
        answer["sessionId"].as_str().expect("a session id").clone_into(&mut browser.session);
        let debugger = &answer["capabilities"]["goog:chromeOptions"]["debuggerAddress"];
        let debugger = debugger.as_str().and_then(|address| address.rsplit_once(':'));
        let port = debugger.and_then(|(_, port)| port.parse().ok()).expect("a debugger's port");
        browser.debugger = SocketAddr::from(([127, 0, 0, 1], port));
        browser
    }

    /// Opens a page and waits until it is loaded.
    ///
    /// # Errors
    /// What the browser shows instead, for example `net::ERR_SOCKS_CONNECTION_FAILED`.
    pub fn open(&self, url: &str) -> Result<(), Failure> {
        self.command("url", &json!({ "url": url })).map(drop)
    }

    /// Runs a function body in the page and returns what it returns.
    ///
    /// # Errors
    /// What the page threw.
    pub fn run(&self, script: &str) -> Result<Value, Failure> {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a function body whose last argument is a callback, and returns what that was given.
    ///
    /// # Errors
    /// What the page threw.
    pub fn run_async(&self, script: &str) -> Result<Value, Failure> {
        self.command("execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Value of an expression.
    ///
    /// # Panics
    /// When it throws.
    #[track_caller]
    #[must_use]
    pub fn value(&self, expression: &str) -> Value {
        let value = self.run(&format!("return {expression};"));
        value.unwrap_or_else(|Failure(why)| panic!("`{expression}`: {why}"))
    }

    /// Types a name and a password into the browser whenever it is asked for them.
    ///
    /// # Panics
    /// When the browser does not let us.
    #[must_use]
    pub fn answer_challenges(&self, name: &str, password: &str) -> Challenges {
        Challenges::answer(self.debugger, name, password)
    }

    fn command(&self, name: &str, body: &Value) -> Result<Value, Failure> {
        self.call("POST", &format!("/session/{}/{name}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = Request::new(method, path).header("Connection", "close");
        let request = request.header("Content-Type", "application/json");
        let response = request.body(body.to_string().as_bytes()).send(self.server);
        let mut answer: Value = serde_json::from_slice(&response.body)
            .map_err(|error| Failure(format!("{error}: {}", response.text())))?;
        let value = answer["value"].take();
        match value["error"].as_str() {
            Some(error) if response.status != 200 => {
                let message = value["message"].as_str().unwrap_or("");
                Err(Failure(format!("{error}: {message}")))
            }
            _ => Ok(value),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            let _ = self.call("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
    }
}

/// Starts the driver, and tells the port at which it takes commands.
fn start_driver(directory: &Path) -> (Owned, u16) {
    let log = directory.join("chromedriver.log");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    for _ in 0..DRIVER_STARTS {
        let mut command = Command::new(program("chromedriver").expect("asked for by `need!`"));
        command.args(["--port=0"]).env("HOME", directory).env("TMPDIR", directory);
        let mut driver = Owned::start_group(command, &log);
        let port = wait_for("the driver tells its port or ends", STARTED_WITHIN, || {
            // Looked at first, so that what it said before its end is read after it.
            let ended = !driver.is_running();
            let port = port_told(&said());
            (ended || port.is_some()).then_some(port)
        });
        if let Some(port) = port {
            return (driver, port);
        }
    }
    panic!("the driver ended {DRIVER_STARTS} times: {}", said());
}

fn port_told(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("started successfully on port ")?;
    rest.split_once('.')?.0.parse().ok()
}

fn capabilities(directory: &Path, proxy: Option<&str>) -> Value {
    let mut arguments = vec![
        "--headless=new".to_owned(),
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-background-networking".to_owned(),
        "--no-first-run".to_owned(),
        format!("--user-data-dir={}", directory.join("chromium").display()),
    ];
    match proxy {
        Some(proxy) => {
            arguments.push(format!("--proxy-server={proxy}"));
            // Otherwise Chromium bypasses the proxy for loopback names.
            arguments.push("--proxy-bypass-list=<-loopback>".to_owned());
        }
        None => arguments.push("--no-proxy-server".to_owned()),
    }
    let browser = program("chromium").expect("asked for by `need!`");
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "timeouts": { "pageLoad": PAGE_LOAD_MS, "script": PAGE_LOAD_MS },
        "goog:chromeOptions": { "binary": browser, "args": arguments },
    } } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::wait_until;
    use crate::need;
    use crate::origin::HttpOrigin;

    #[test]
    fn a_page_is_opened_and_looked_into() {
        need!("chromium", "chromedriver");
        let directory = std::env::temp_dir().join(format!("cloak-web{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let origin = HttpOrigin::start();
        let browser = Browser::start(&directory, None);
        browser.open(&format!("http://{}/page", origin.address())).unwrap();
        wait_until("the page ticks", Duration::from_secs(10), || {
            browser.value("window.last").as_i64().unwrap_or(-1) > 3
        });
        assert_eq!(browser.value("window.wrong"), 0);
        assert!(browser.run("throw new Error('no')").is_err());
        let closed = origin.address();
        drop(origin);
        let refused = browser.open(&format!("http://{closed}/page")).unwrap_err();
        assert!(refused.0.contains("ERR_CONNECTION_REFUSED"), "{refused:?}");
        drop(browser);
        let _ = std::fs::remove_dir_all(directory);
    }
}
