//! The demo's sample web service.
//!
//! `/` is a page, `/bytes/N` a download that `seq` can check, `/slow` a line five times a second for
//! a minute, and `/echo` sends an upload back as it comes.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Lines of `/slow`, and the time between two.
const SLOW_LINES: u32 = 300;
const SLOW_PAUSE: Duration = Duration::from_millis(200);

/// Bytes of a chunk of `/bytes`.
const CHUNK_BYTES: usize = 64 * 1024;

const PAGE: &str = include_str!("page.html");

/// Serves until `cancel`.
///
/// # Cancel safety
/// Dropping the future leaves connections to the runtime's end.
pub(super) async fn run(listener: TcpListener, cancel: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        if let Ok((socket, _)) = accepted {
            connections.spawn(cancel.clone().run_until_cancelled_owned(serve(socket)));
        }
    }
    connections.close();
    connections.wait().await;
}

async fn serve(socket: TcpStream) {
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(request))));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the sample service ended early");
    }
}

fn answer(request: Request<Incoming>) -> Response<Content> {
    let path = request.uri().path();
    let (status, kind, content) = match (request.method(), path) {
        (&Method::POST | &Method::PUT, "/echo") => {
            (StatusCode::OK, "application/octet-stream", Content::Echo(request.into_body()))
        }
        (_, "/") => (StatusCode::OK, "text/html; charset=utf-8", text(PAGE)),
        (_, "/slow") => (StatusCode::OK, "text/plain", Content::Lines(Lines::new())),
        _ => match path.strip_prefix("/bytes/").and_then(|count| count.parse().ok()) {
            Some(count) => {
                let numbers = Content::Numbers(Numbers::new(count));
                (StatusCode::OK, "application/octet-stream", numbers)
            }
            None => (StatusCode::NOT_FOUND, "text/plain", text("no such page\n")),
        },
    };
    let mut response = Response::new(content);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind.parse().expect("invariant: a constant"));
    response
}

fn text(text: &'static str) -> Content {
    Content::Text(Full::new(Bytes::from_static(text.as_bytes())))
}

/// What is sent.
enum Content {
    Text(Full<Bytes>),
    Numbers(Numbers),
    Lines(Lines),
    Echo(Incoming),
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Self::Numbers(numbers) => {
                Poll::Ready(numbers.chunk().map(|chunk| Ok(Frame::data(chunk))))
            }
            Self::Lines(lines) => {
                lines.poll_line(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
            }
            Self::Echo(upload) => Pin::new(upload).poll_frame(cx).map_err(io::Error::other),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Numbers(numbers) => hyper::body::SizeHint::with_exact(numbers.left),
            Self::Lines(_) => hyper::body::SizeHint::default(),
            Self::Echo(upload) => upload.size_hint(),
        }
    }
}

/// The first bytes of what `seq` prints: every place has its own value, so that a byte lost or
/// doubled shows.
struct Numbers {
    next: u64,
    left: u64,
    /// What of the last number did not fit.
    rest: Vec<u8>,
}

impl Numbers {
    fn new(left: u64) -> Self {
        Self { next: 1, left, rest: Vec::new() }
    }

    fn chunk(&mut self) -> Option<Bytes> {
        let want = usize::try_from(self.left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        if want == 0 {
            return None;
        }
        let mut chunk = std::mem::take(&mut self.rest);
        while chunk.len() < want {
            chunk.extend_from_slice(self.next.to_string().as_bytes());
            chunk.push(b'\n');
            self.next += 1;
        }
        self.rest = chunk.split_off(want);
        self.left -= want as u64;
        Some(chunk.into())
    }
}

/// A line at each tick.
struct Lines {
    sent: u32,
    pause: Interval,
}

impl Lines {
    fn new() -> Self {
        Self { sent: 0, pause: tokio::time::interval(SLOW_PAUSE) }
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.sent == SLOW_LINES {
            return Poll::Ready(None);
        }
        std::task::ready!(self.pause.poll_tick(cx));
        self.sent += 1;
        Poll::Ready(Some(format!("line {} of {SLOW_LINES}\n", self.sent).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_are_what_seq_prints() {
        let whole: Vec<u8> =
            (1..100_000).flat_map(|n: u32| format!("{n}\n").into_bytes()).collect();
        for count in [0, 1, 9, 65_536, 65_537, 200_000] {
            let mut numbers = Numbers::new(count);
            let sent: Vec<u8> = std::iter::from_fn(|| numbers.chunk()).flatten().collect();
            assert_eq!(sent, whole[..usize::try_from(count).unwrap()], "{count}");
        }
    }
}
