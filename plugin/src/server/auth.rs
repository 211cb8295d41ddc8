//! Who may use the admin routes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::{info, warn};

use super::refusal::Refusal;
use crate::config::{AdminOptions, is_loopback};

/// The middleware of the admin routes: lets a request through if it may use them.
pub(super) async fn require(State(options): State<Arc<AdminOptions>>, request: Request, next: Next) -> Response {
    if let Some(response) = refused(&options, &request) {
        return response;
    }
    let changes = !request.method().is_safe();
    let what = format!("{} {}", request.method(), request.uri().path());
    let Caller(caller) = Caller::of(request.extensions());
    let response = next.run(request).await;
    if changes {
        info!(caller, status = response.status().as_u16(), "{what}");
    }
    response
}

/// The middleware of the route that the playground reads its state from. Without a token, programs and this server's
/// own pages on this machine may use it, even if the admin routes are closed: the route changes nothing.
pub(super) async fn require_for_pages(
    State(options): State<Arc<AdminOptions>>,
    request: Request,
    next: Next,
) -> Response {
    let readable = AdminOptions {
        open_on_loopback: options.open_on_loopback || options.loopback,
        ..(*options).clone()
    };
    match refused(&readable, &request) {
        Some(response) => response,
        None => next.run(request).await,
    }
}

/// The answer to a request that may not use the admin routes; `None` if it may.
pub(super) fn refused(options: &AdminOptions, request: &Request) -> Option<Response> {
    let refusal = allowed(options, request.uri().authority(), request.headers()).err()?;
    warn!(
        caller = Caller::of(request.extensions()).0,
        status = refusal.status.as_u16(),
        "{} {} refused: {}",
        request.method(),
        request.uri().path(),
        refusal.message
    );
    let unauthorized = refusal.status == StatusCode::UNAUTHORIZED;
    let mut response = refusal.into_response();
    if unauthorized {
        let scheme = HeaderValue::from_static("Bearer realm=\"steering\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    Some(response)
}

/// The address that a request comes from.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) String);

impl Caller {
    fn of(extensions: &Extensions) -> Self {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        Self(peer.map_or("unknown".to_string(), |ConnectInfo(address)| address.to_string()))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

fn allowed(options: &AdminOptions, authority: Option<&Authority>, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = &options.token else {
        return local(options, authority, headers);
    };
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let unauthorized = |found: &str| {
        let message = format!("authorization: found {found}, expected \"Bearer \" and the token of the admin routes");
        Refusal::new(StatusCode::UNAUTHORIZED, message)
    };
    match (given.next().map(bearer), given.next()) {
        (None, _) => Err(unauthorized("nothing")),
        (_, Some(_)) => Err(unauthorized("the header twice")),
        (Some(None), _) => Err(unauthorized("another scheme")),
        (Some(Some(text)), _) if token.is(text) => Ok(()),
        (Some(Some(_)), _) => Err(unauthorized("another token")),
    }
}

/// The token in a header's value.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Headers that proxies add. A request with one of these comes from another machine, whatever its address is.
const FORWARDING: [&str; 6] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Without a token only programs on this machine, and pages that this server sent, may use the admin routes; other web
/// pages may not.
fn local(options: &AdminOptions, authority: Option<&Authority>, headers: &HeaderMap) -> Result<(), Refusal> {
    let forbidden = |found: &str| {
        let message = format!(
            "admin routes: found {found}, expected a token: set steering.admin.token_env or steering.admin.token_file"
        );
        Refusal::new(StatusCode::FORBIDDEN, message)
    };
    if !options.open_on_loopback {
        return Err(forbidden("a server without a token and without open_on_loopback"));
    }
    if let Some(header) = FORWARDING.iter().find(|header| headers.contains_key(**header)) {
        return Err(forbidden(&format!(
            "a request that was forwarded ({header}) to a server without a token"
        )));
    }
    // A web page can resolve its own host name to this machine (DNS rebinding); the header then has that name.
    let host = match authority {
        Some(authority) => Some(authority.clone()),
        None => match headers.get(HOST) {
            Some(host) => match Authority::try_from(host.as_bytes()) {
                Ok(host) => Some(host),
                Err(_) => return Err(forbidden("an invalid host header")),
            },
            None => None,
        },
    };
    match host {
        Some(host) if !is_loopback(host.host()) => Err(forbidden("a request under another machine's name")),
        host if is_foreign(headers, host.as_ref()) => {
            Err(forbidden("another web page's request to a server without a token"))
        }
        _ => Ok(()),
    }
}

/// Whether the browser's headers say that the request comes from a page of another origin than `host`, this server.
fn is_foreign(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let own = host.map(|host| format!("http://{host}"));
    let mut origins = headers.get_all(ORIGIN).iter();
    let mut sites = headers.get_all("sec-fetch-site").iter();
    origins.any(|origin| own.as_ref().is_none_or(|own| origin.as_bytes() != own.as_bytes()))
        || sites.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}
