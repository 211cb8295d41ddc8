//! Errors that are answered before the request's body was read, such as 413.
//!
//! When a connection is closed with bytes in it that nobody read, the operating system resets it, and a client that is still
//! sending sees "connection reset" in place of the answer. So the rest of the body is read first, and thrown away.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::timeout;

/// The most bytes of a refused body that are read. A client that sends more than that may see its connection reset.
const MAX_BYTES: usize = 64 << 20;

/// The longest time of that.
const MAX_TIME: Duration = Duration::from_secs(10);

/// The middleware that reads the rest of a request's body before an error is answered.
pub(super) async fn read_to_end(request: Request, next: Next) -> Response {
    let waits = request.headers().contains_key(EXPECT);
    let (parts, body) = request.into_parts();
    let shared = SharedBody(Arc::new(Mutex::new(PartlyReadBody { body, started: false })));
    let request = Request::from_parts(parts, Body::new(shared.clone()));
    let response = next.run(request).await;
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    // With `Expect: 100-continue` a client sends its body only after it was asked to, and reading is what asks.
    if is_error && (shared.reading().started || !waits) {
        let rest = std::mem::take(&mut shared.reading().body);
        // Whether all of it was read or not, there is nothing else that could be done for the client.
        let _ = timeout(MAX_TIME, discard(rest)).await;
    }
    response
}

/// Reads `rest` to its end, to an error, or to [`MAX_BYTES`].
async fn discard(mut rest: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = rest.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > MAX_BYTES {
            return;
        }
    }
}

/// A body that a handler reads, and whose rest the middleware can read.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<PartlyReadBody>>);

/// A body that a handler may have begun to read.
struct PartlyReadBody {
    /// Empty after the middleware took it.
    body: Body,
    /// Whether a handler has asked for bytes.
    started: bool,
}

impl SharedBody {
    fn reading(&self) -> MutexGuard<'_, PartlyReadBody> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut reading = self.reading();
        reading.started = true;
        Pin::new(&mut reading.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.reading().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reading().body.size_hint()
    }
}
