//! A request's answer. The list of routes stands at the head of `mod.rs`.

use super::ReloadRefused;
use super::metrics::{gather, to_text};
use super::state::State;
use super::status::status;
use crate::catalog::Crcs;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use hyper::header::{HeaderName, HeaderValue, REFERRER_POLICY};
use hyper::header::{X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The page: markup, style and script in one, nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

/// The most that a request may carry. None of the routes wants anything.
pub(super) const REQUEST_BODY_LEN_MAX: usize = 4 << 10;

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the page may do: run its own script, and send requests to this address.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
     style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// What everything else may do.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

type Answer = Response<Full<Bytes>>;

/// Where a request comes from.
pub(super) struct Origin {
    /// Whether a browser could be at the other end.
    is_tcp: bool,
    long_answers: AtomicUsize,
}

/// While it is there, the connection is not too old.
struct LongAnswer<'a>(&'a AtomicUsize);

impl Drop for LongAnswer<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Origin {
    pub(super) fn new(is_tcp: bool) -> Self {
        Self { is_tcp, long_answers: AtomicUsize::new(0) }
    }

    /// Whether an answer is being made that may take longer than a connection lives.
    pub(super) fn has_long_answer(&self) -> bool {
        self.long_answers.load(Ordering::Relaxed) > 0
    }

    fn begin_long_answer(&self) -> LongAnswer<'_> {
        self.long_answers.fetch_add(1, Ordering::Relaxed);
        LongAnswer(&self.long_answers)
    }
}

/// Answers a request.
pub(super) async fn answer(
    state: &Arc<State>,
    origin: &Origin,
    request: Request<Incoming>,
) -> Answer {
    let is_reload = request.uri().path() == "/reload";
    let allowed: &[Method] = if is_reload { &[Method::POST] } else { &[Method::GET, Method::HEAD] };
    let is_known = matches!(
        request.uri().path(),
        "/" | "/metrics" | "/livez" | "/readyz" | "/status.json" | "/crcs" | "/reload"
    );
    if !is_known {
        let routes = "there is /, /status.json, /metrics, /livez, /readyz, /crcs and POST /reload";
        return plain(StatusCode::NOT_FOUND, routes);
    }
    if !allowed.contains(request.method()) {
        let names: Vec<_> = allowed.iter().map(Method::as_str).collect();
        let names = names.join(", ");
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, &format!("use {names}"));
        if let Ok(names) = HeaderValue::from_str(&names) {
            answer.headers_mut().insert(ALLOW, names);
        }
        return answer;
    }
    match request.uri().path() {
        "/reload" => reload(state, origin, request).await,
        "/metrics" => full(StatusCode::OK, METRICS_TEXT, POLICY, to_text(&gather(&state.scrape()))),
        "/livez" => verdict(state.liveness()),
        "/readyz" => verdict(state.readiness().map_err(|reason| format!("not ready: {reason}"))),
        "/crcs" => crcs(state, request.uri().query()),
        "/status.json" => {
            let since = request.uri().query().and_then(|query| query.strip_prefix("since="));
            let since = since.and_then(|since| since.parse().ok()).unwrap_or(0);
            full(StatusCode::OK, "application/json", POLICY, status(state, since).to_string())
        }
        _ => full(StatusCode::OK, "text/html; charset=utf-8", PAGE_POLICY, PAGE),
    }
}

/// What a game server compares at login, of what is served to connections to come.
fn crcs(state: &State, query: Option<&str>) -> Answer {
    let crcs = Crcs::of(&state.sources.snapshots.load());
    match query {
        None | Some("format=text") => full(StatusCode::OK, TEXT, POLICY, crcs.to_text()),
        Some("format=json") => {
            full(StatusCode::OK, "application/json", POLICY, crcs.to_json().to_string())
        }
        Some("format=ints") => {
            full(StatusCode::OK, "application/octet-stream", POLICY, crcs.to_ints())
        }
        Some(_) => plain(StatusCode::BAD_REQUEST, "use ?format=text, json or ints"),
    }
}

fn verdict(result: Result<String, String>) -> Answer {
    match result {
        Ok(text) => plain(StatusCode::OK, &text),
        Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

/// Loads the cache again, on a thread that may wait, so that other requests are answered.
async fn reload(state: &Arc<State>, origin: &Origin, request: Request<Incoming>) -> Answer {
    if origin.is_tcp
        && let Err(reason) = state.guard.check(request.headers())
    {
        return plain(StatusCode::FORBIDDEN, &format!("refused: {reason}"));
    }
    if let Err(answer) = discard(state, request).await {
        return answer;
    }
    if state.reloading.swap(true, Ordering::Relaxed) {
        return plain(StatusCode::CONFLICT, "a reload is under way; ask again when it is done");
    }
    let worker = Arc::clone(state);
    let running = origin.begin_long_answer();
    let result = tokio::task::spawn_blocking(move || {
        let result = (worker.sources.reload)();
        worker.reloading.store(false, Ordering::Relaxed);
        result
    });
    let result = result.await;
    drop(running);
    match result {
        Ok(Ok(done)) => plain(StatusCode::OK, &done),
        Ok(Err(ReloadRefused::Unavailable(reason))) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, &reason)
        }
        Ok(Err(ReloadRefused::Failed(reason))) => plain(StatusCode::UNPROCESSABLE_ENTITY, &reason),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Reads a request to its end, in time and within bounds.
#[expect(clippy::disallowed_methods, reason = "these are no ring operations: a drop ends them")]
async fn discard(state: &State, request: Request<Incoming>) -> Result<(), Answer> {
    let body = Limited::new(request.into_body(), REQUEST_BODY_LEN_MAX).collect();
    match tokio::time::timeout(state.options.request_timeout, body).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let bound = format!("a request carries {REQUEST_BODY_LEN_MAX} bytes at most");
            Err(plain(StatusCode::PAYLOAD_TOO_LARGE, &bound))
        }
        Ok(Err(_)) => Err(plain(StatusCode::BAD_REQUEST, "the request breaks off")),
        Err(_) => Err(plain(StatusCode::REQUEST_TIMEOUT, "the request took too long")),
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    full(status, TEXT, POLICY, format!("{text}\n"))
}

fn full(
    status: StatusCode,
    kind: &'static str,
    policy: &'static str,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
