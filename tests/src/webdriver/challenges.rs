//! Answers to what a browser asks its user: name and password.
//!
//! WebDriver has no words for it, so this speaks to the page itself (the Chrome `DevTools` protocol,
//! domain `Fetch`) beside the driver.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

use crate::http::Request;

/// How often the thread looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Challenges after which the user gives up.
const TRIES_MAX: usize = 3;
/// The browser's answer to the first command.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A user at a browser's page who types name and password when asked, three times at most, and then
/// presses "Cancel". Dropping it ends that.
#[derive(Debug)]
pub struct Challenges {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    by_proxies: AtomicUsize,
    all: AtomicUsize,
}

impl Challenges {
    /// Sits down at the only page of the browser that listens at `debugger`.
    ///
    /// # Panics
    /// When the browser does not let us.
    pub(super) fn answer(debugger: SocketAddr, name: &str, password: &str) -> Self {
        let mut page = Page::open(debugger);
        page.send("Fetch.enable", &json!({ "handleAuthRequests": true }));
        page.wait_for_answer();
        let answer =
            json!({ "response": "ProvideCredentials", "username": name, "password": password });
        let seen = Arc::<Seen>::default();
        let thread = std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || page.serve(&seen, &answer)
        });
        Self { seen, thread: Some(thread) }
    }

    /// Challenges of proxies so far: answers 407.
    #[must_use]
    pub fn by_proxies(&self) -> usize {
        self.seen.by_proxies.load(Ordering::SeqCst)
    }
}

impl Drop for Challenges {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The `DevTools` side of a page.
struct Page {
    socket: WebSocket<TcpStream>,
    commands: u64,
}

impl Page {
    fn open(debugger: SocketAddr) -> Self {
        let list = Request::get("/json/list").header("Connection", "close").send(debugger);
        let list: Value = serde_json::from_slice(&list.body).expect("the browser lists its pages");
        let pages = list.as_array().expect("a list");
        let page = pages.iter().find(|page| page["type"] == "page").expect("a page");
        let url = page["webSocketDebuggerUrl"].as_str().expect("its address");
        let stream = TcpStream::connect(debugger).expect("the browser listens");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a timeout can be set");
        let (socket, _) = tungstenite::client(url, stream)
            .unwrap_or_else(|error| panic!("no WebSocket at {url}: {error}"));
        Self { socket, commands: 0 }
    }

    fn send(&mut self, method: &str, parameters: &Value) {
        self.commands += 1;
        let command = json!({ "id": self.commands, "method": method, "params": parameters });
        self.socket.send(Message::text(command.to_string())).expect("the page takes a command");
    }

    fn wait_for_answer(&mut self) {
        loop {
            let message = self.socket.read().expect("the page answers");
            let message: Value = serde_json::from_str(message.to_text().expect("a text"))
                .expect("the page speaks JSON");
            if message["id"] == self.commands {
                assert!(message["error"].is_null(), "{message}");
                return;
            }
        }
    }

    /// Lets every request pass and answers every challenge, until nobody wants it or the page ends.
    fn serve(mut self, seen: &Seen, answer: &Value) {
        let _ = self.socket.get_ref().set_read_timeout(Some(LOOK_EVERY));
        while !seen.stop.load(Ordering::SeqCst) {
            match self.socket.read() {
                Ok(Message::Text(text)) => self.handle(&text, seen, answer),
                Ok(_) => {}
                Err(Error::Io(error)) if is_timeout(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn handle(&mut self, text: &str, seen: &Seen, answer: &Value) {
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        let id = &event["params"]["requestId"];
        match event["method"].as_str() {
            Some("Fetch.requestPaused") => {
                self.send("Fetch.continueRequest", &json!({ "requestId": id }));
            }
            Some("Fetch.authRequired") => {
                if event["params"]["authChallenge"]["source"] == "Proxy" {
                    seen.by_proxies.fetch_add(1, Ordering::SeqCst);
                }
                let given_up = seen.all.fetch_add(1, Ordering::SeqCst) >= TRIES_MAX;
                let cancel = json!({ "response": "CancelAuth" });
                let answer = if given_up { &cancel } else { answer };
                let parameters = json!({ "requestId": id, "authChallengeResponse": answer });
                self.send("Fetch.continueWithAuth", &parameters);
            }
            _ => {}
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
