//! How the server starts to listen and how it stops.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::server::{is_event_stream, unavailable, unavailable_events};

/// Most connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Time for the last writes after all answers have ended.
const FINAL_WRITES: Duration = Duration::from_secs(1);

/// The events that end a stream that was still running.
static LAST_EVENTS: LazyLock<Bytes> = LazyLock::new(|| unavailable_events(STOPPING, "server_stopping"));

const STOPPING: &str = "the server is stopping";

/// The phases of the server's shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ServerPhase {
    Serving,
    /// New connections are refused; running requests go on.
    Stopping,
    /// Running requests are ended.
    Over,
}

/// Stops the server on a signal.
#[derive(Clone)]
pub struct Stopping {
    phase: watch::Receiver<ServerPhase>,
    listening: Arc<AtomicBool>,
}

impl Stopping {
    /// Waits for signals from now on: SIGTERM, SIGINT, SIGHUP. On the first the server stops listening and gives
    /// running requests `patience`. On a second, or after that time, streams end with an error event and other requests
    /// with 503. Before the server listens, the first signal ends the process.
    ///
    /// # Errors
    ///
    /// The system can't wait for these signals.
    pub fn on_signals(patience: Duration) -> Result<Self> {
        let mut signals = Signals::new().context("signals can't be waited for")?;
        let (sender, phase) = watch::channel(ServerPhase::Serving);
        let listening = Arc::new(AtomicBool::new(false));
        let served = listening.clone();
        tokio::spawn(async move {
            let name = signals.next().await;
            if !served.load(Ordering::Acquire) {
                info!("{name}: stopped before listening");
                process::exit(0);
            }
            info!(
                "{name}: no longer listening; running requests have {} s to end",
                patience.as_secs()
            );
            sender.send_replace(ServerPhase::Stopping);
            tokio::select! {
                () = tokio::time::sleep(patience) => warn!("Ending the running requests"),
                name = signals.next() => warn!("{name}: ending the running requests"),
            }
            sender.send_replace(ServerPhase::Over);
            tokio::time::sleep(FINAL_WRITES).await;
            process::exit(0);
        });
        Ok(Self { phase, listening })
    }

    async fn reached(mut self, phase: ServerPhase) {
        // The sender is not dropped before the process ends.
        let _ = self.phase.wait_for(|now| *now >= phase).await;
    }

    /// Serves `app` on `socket` until a signal ends it.
    ///
    /// # Errors
    ///
    /// The socket can't be listened on.
    pub async fn serve(self, socket: Socket, app: Router) -> Result<()> {
        let listener = socket.listen()?;
        let app = app.layer(middleware::from_fn_with_state(self.clone(), ended_in_time));
        self.listening.store(true, Ordering::Release);
        let stopping = self.clone().reached(ServerPhase::Stopping);
        axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(stopping)
            .await?;
        info!("All requests have ended");
        // Detached tasks are not waited for.
        process::exit(0)
    }
}

/// The middleware that ends requests that are still running.
async fn ended_in_time(State(stopping): State<Stopping>, request: Request, next: Next) -> Response {
    let response = tokio::select! {
        response = next.run(request) => response,
        () = stopping.clone().reached(ServerPhase::Over) => return unavailable(STOPPING).into_response(),
    };
    let last = is_event_stream(response.headers()).then(|| LAST_EVENTS.clone());
    let over = Box::pin(stopping.reached(ServerPhase::Over));
    response.map(|inner| {
        Body::new(Ending {
            inner,
            over: Some(over),
            last,
        })
    })
}

/// A body that ends when the server does.
struct Ending {
    inner: Body,
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    last: Option<Bytes>,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(over) = &mut self.over else {
            return Poll::Ready(None);
        };
        if over.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut self.inner).poll_frame(cx);
        }
        self.over = None;
        Poll::Ready(match self.last.take() {
            Some(last) => Some(Ok(Frame::data(last))),
            None => Some(Err(axum::Error::new(STOPPING))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.last {
            Some(_) => SizeHint::default(),
            None => self.inner.size_hint(),
        }
    }
}

#[cfg(unix)]
struct Signals([(&'static str, tokio::signal::unix::Signal); 3]);

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([
            ("SIGTERM", signal(SignalKind::terminate())?),
            ("SIGINT", signal(SignalKind::interrupt())?),
            ("SIGHUP", signal(SignalKind::hangup())?),
        ]))
    }

    async fn next(&mut self) -> &'static str {
        let [term, int, hup] = &mut self.0;
        tokio::select! {
            _ = term.1.recv() => term.0,
            _ = int.1.recv() => int.0,
            _ = hup.1.recv() => hup.0,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }
}

/// A bound port that is not yet listened on. Connections are refused until it is.
pub struct Socket {
    socket: TcpSocket,
    address: String,
}

impl Socket {
    /// Binds `port` of `host`.
    ///
    /// # Errors
    ///
    /// The host has no address, or the port can't be bound; the message names both.
    pub async fn bind(host: &str, port: u16) -> Result<Self> {
        let address = format!("{host}:{port}");
        let at = || format!("server: can't listen on {address}");
        let mut failed = None;
        for found in lookup_host((bare(host), port)).await.with_context(at)? {
            let socket = if found.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            };
            let bound = socket.and_then(|socket| {
                #[cfg(unix)]
                socket.set_reuseaddr(true)?;
                socket.bind(found)?;
                Ok(socket)
            });
            match bound {
                Ok(socket) => return Ok(Self { socket, address }),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error).with_context(at),
            None => anyhow::bail!("{}: the host has no address", at()),
        }
    }

    fn listen(self) -> Result<TcpListener> {
        let address = self.address;
        let listener = self.socket.listen(BACKLOG);
        let listener = listener.with_context(|| format!("server: can't listen on {address}"))?;
        info!("Server listening on http://{address}");
        Ok(listener)
    }
}

/// A host without the brackets that an IPv6 address has in a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use futures::{StreamExt, stream};

    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let socket = Socket::bind("127.0.0.1", 0).await.unwrap();
        let port = socket.socket.local_addr().unwrap().port();
        let _listener = socket.listen().unwrap();
        let error = format!("{:#}", Socket::bind("127.0.0.1", port).await.err().unwrap());
        assert!(
            error.starts_with(&format!("server: can't listen on 127.0.0.1:{port}: ")),
            "{error}"
        );
        let error = format!("{:#}", Socket::bind("no such host", 1).await.err().unwrap());
        assert!(error.starts_with("server: can't listen on no such host:1: "), "{error}");
        assert!(Socket::bind("[::1]", 0).await.is_ok() || Socket::bind("::1", 0).await.is_err());
    }

    #[tokio::test]
    async fn what_runs_ends_with_an_event() {
        let (sender, phase) = watch::channel(ServerPhase::Serving);
        let stopping = Stopping {
            phase,
            listening: Arc::default(),
        };
        let first = || stream::iter([Ok::<_, axum::Error>(Bytes::from("data: 1\n\n"))]);
        let body = |last| {
            Body::new(Ending {
                inner: Body::from_stream(first().chain(stream::pending())),
                over: Some(Box::pin(stopping.clone().reached(ServerPhase::Over))),
                last,
            })
        };
        let (events, other) = (body(Some(LAST_EVENTS.clone())), body(None));
        sender.send_replace(ServerPhase::Stopping);
        let reading = tokio::spawn(to_bytes(events, 1 << 20));
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        sender.send_replace(ServerPhase::Over);
        let text = reading.await.unwrap().unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(
            text.starts_with("data: 1\n\ndata: {\"error\":{") && text.ends_with("data: [DONE]\n\n"),
            "{text}"
        );
        assert!(to_bytes(other, 1 << 20).await.is_err());
    }
}
