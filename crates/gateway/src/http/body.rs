//! Bodies on their way through the proxy.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::passage::Answering;

/// The body of an answer. As long as it lives, the next request waits.
pub(super) struct AnswerBody {
    source: Source,
    answering: Option<Answering>,
}

enum Source {
    Page(Option<Bytes>),
    Upstream(Incoming),
}

impl AnswerBody {
    /// A page of our own.
    pub(super) fn page(text: impl Into<Bytes>) -> Self {
        let text = Some(text.into()).filter(|text: &Bytes| !text.is_empty());
        Self { source: Source::Page(text), answering: None }
    }

    /// What an upstream answers.
    pub(super) fn upstream(body: Incoming) -> Self {
        Self { source: Source::Upstream(body), answering: None }
    }

    /// Holds back the next request until this body is gone.
    pub(super) fn holding(self, answering: Answering) -> Self {
        Self { answering: Some(answering), ..self }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match &mut self.source {
            Source::Page(text) => {
                return Poll::Ready(text.take().map(|text| Ok(Frame::data(text))));
            }
            Source::Upstream(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        if let (Some(Err(_)), Some(answering)) = (&frame, &self.answering) {
            answering.passage().break_off();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Page(text) => text.is_none(),
            Source::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Page(text) => {
                let len = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(len).unwrap_or(u64::MAX))
            }
            Source::Upstream(body) => body.size_hint(),
        }
    }
}

/// The body of a request. Where the application expects a `100 Continue`, it is not touched (which
/// would make hyper send one) until the upstream sent its own, or none for a while.
pub(super) struct RequestBody {
    source: Option<Incoming>,
    expectation: Option<Expectation>,
}

struct Expectation {
    met: oneshot::Receiver<()>,
    patience: Pin<Box<Sleep>>,
}

impl RequestBody {
    pub(super) fn none() -> Self {
        Self { source: None, expectation: None }
    }

    pub(super) fn new(body: Incoming) -> Self {
        Self { source: Some(body), expectation: None }
    }

    /// A body that waits for `met`.
    pub(super) fn expecting(body: Incoming, met: oneshot::Receiver<()>) -> Self {
        let expectation = Expectation { met, patience: Box::pin(sleep(CONTINUE_PATIENCE)) };
        Self { source: Some(body), expectation: Some(expectation) }
    }

    pub(super) fn is_none(&self) -> bool {
        self.source.is_none()
    }

    fn poll_expectation(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(expectation) = &mut self.expectation else { return Poll::Ready(()) };
        if Pin::new(&mut expectation.met).poll(cx).is_pending() {
            ready!(expectation.patience.as_mut().poll(cx));
        }
        self.expectation = None;
        Poll::Ready(())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        ready!(self.poll_expectation(cx));
        match &mut self.source {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.source.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// How long an upstream may take to say `100 Continue` before the body is sent all the same: it
/// need not know that (RFC 9110, 10.1.1).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);
