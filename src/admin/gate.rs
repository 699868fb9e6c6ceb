//! Who may ask: before anything else is looked at.
//!
//! Invariant: a page of another site reaches nothing. It cannot name this listener by a host of its own (DNS rebinding),
//! cannot send what changes something, and is told nothing that its browser would let it read: there is no CORS here.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::api::Office;
use super::error::ApiError;
use crate::secret::{Secret, digest16};
use crate::wire::fetch::{Fetch, Site};
use crate::wire::fields::Fields;
use crate::wire::target::split_authority;

/// What opens the listener.
#[derive(Debug)]
pub(super) struct Gate {
    /// The head of the token's SHA-256: of one length, so that comparing tells nothing of the token's own.
    token: Option<Secret>,
}

impl Gate {
    pub(super) fn new(token: Option<&Secret>) -> Self {
        Self { token: token.map(|token| Secret::new(digest16(token.expose()))) }
    }

    /// Refuses what may not be asked.
    ///
    /// Without a token the listener is local (the config sees to that), so a local name is the only one by which it is
    /// asked for in earnest. With a token the name is the operator's own affair: a page that rebinds its name has no token.
    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = match only(headers, &HOST)? {
            // A supervisor that speaks HTTP/1.0 names none; a browser always does.
            None if is_probe(path) => return Ok(()),
            host => host.ok_or(ApiError::NoHost)?,
        };
        let (name, _) = split_authority(host).ok_or(ApiError::NoHost)?;
        if self.token.is_none() && !is_local(name) {
            return Err(ApiError::ForeignHost);
        }
        if headers.contains_key(ORIGIN) && !only(headers, &ORIGIN)?.is_some_and(|origin| is_own(origin, host))
        {
            return Err(ApiError::ForeignOrigin);
        }
        if !method.is_safe()
            && !matches!(Fetch::of(&Fields::of(headers)).site, None | Some(Site::SameOrigin | Site::None))
        {
            return Err(ApiError::ForeignOrigin);
        }
        let given = only(headers, &AUTHORIZATION).ok().flatten().and_then(bearer);
        match &self.token {
            Some(token) if !is_probe(path) && given.as_ref() != Some(token) => Err(ApiError::Unauthorized),
            _ => Ok(()),
        }
    }
}

/// Checks the request, answers it, and says of every answer that it is nobody else's and what it is.
pub(super) async fn guard(State(office): State<Office>, request: Request, next: Next) -> Response {
    let checked = office.gate().check(request.method(), request.uri().path(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    response
}

/// Probes of a supervisor, which tell one word and need no token.
fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// The one value of a header; an error where there are several, or one that is no text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ApiError::NoHost),
        _ => Err(ApiError::NoHost),
    }
}

/// True for names and addresses by which a machine calls itself.
fn is_local(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// True where `origin` is the one of a page at `host`, plain or behind somebody's TLS.
fn is_own(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// What is shown as a token (RFC 6750 2.1; the scheme's name is compared without case, RFC 9110 11.1).
fn bearer(field: &str) -> Option<Secret> {
    let (scheme, token) = field.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| Secret::new(digest16(token.trim().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: Option<&str>, method: Method, headers: &[(&'static str, &str)]) -> Result<(), ApiError> {
        let token = token.map(|token| Secret::new(token.as_bytes()));
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
        Gate::new(token.as_ref()).check(&method, "/api/v1/sessions", &headers)
    }

    #[test]
    fn without_a_token_only_local_names_are_served() {
        for host in
            ["localhost", "LOCALHOST:9190", "127.0.0.1:9190", "127.8.0.1", "[::1]:9190", "[::ffff:127.0.0.1]"]
        {
            assert_eq!(check(None, Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]"]
        {
            assert_eq!(check(None, Method::GET, &[("host", host)]), Err(ApiError::ForeignHost), "{host}");
        }
        for host in ["", "a@127.0.0.1", "127.0.0.1:x"] {
            assert_eq!(check(None, Method::GET, &[("host", host)]), Err(ApiError::NoHost), "{host}");
        }
        assert_eq!(check(None, Method::GET, &[]), Err(ApiError::NoHost));
        assert_eq!(
            check(None, Method::GET, &[("host", "localhost"), ("host", "localhost")]),
            Err(ApiError::NoHost)
        );
    }

    #[test]
    fn a_token_is_needed_where_there_is_one_and_any_host_will_do_then() {
        let asked = |field| {
            check(Some("s3cret"), Method::GET, &[("host", "ops.example:1"), ("authorization", field)])
        };
        assert_eq!(asked("Bearer s3cret"), Ok(()));
        assert_eq!(asked("bearer s3cret"), Ok(()));
        for wrong in ["Bearer s3cre", "Bearer s3cretx", "Bearer ", "Bearer", "s3cret", "Basic s3cret", ""] {
            assert_eq!(asked(wrong), Err(ApiError::Unauthorized), "{wrong}");
        }
        let twice = [("host", "a"), ("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")];
        assert_eq!(check(Some("s3cret"), Method::GET, &twice), Err(ApiError::Unauthorized));
    }

    #[test]
    fn a_probe_needs_no_token_but_a_local_name_if_any() {
        let gate = Gate::new(Some(&Secret::new(*b"s3cret")));
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("10.1.2.3:9190"))]);
        assert_eq!(gate.check(&Method::GET, "/readyz", &headers), Ok(()));
        assert_eq!(gate.check(&Method::GET, "/metrics", &headers), Err(ApiError::Unauthorized));
        assert_eq!(Gate::new(None).check(&Method::GET, "/readyz", &headers), Err(ApiError::ForeignHost));
        assert_eq!(Gate::new(None).check(&Method::GET, "/readyz", &HeaderMap::new()), Ok(()));
    }

    #[test]
    fn another_origin_is_refused_and_the_own_one_is_not() {
        let from = |origin| check(None, Method::GET, &[("host", "localhost:9190"), ("origin", origin)]);
        assert_eq!(from("http://localhost:9190"), Ok(()));
        for foreign in
            ["http://evil.example", "null", "http://localhost", "http://localhost:9191", "localhost:9190"]
        {
            assert_eq!(from(foreign), Err(ApiError::ForeignOrigin), "{foreign}");
        }
    }

    #[test]
    fn what_changes_something_comes_from_the_own_site_or_from_no_page() {
        let asked = |method, site| check(None, method, &[("host", "localhost"), ("sec-fetch-site", site)]);
        assert_eq!(asked(Method::GET, "cross-site"), Ok(()), "its browser does not let it read the answer");
        for site in ["same-origin", "none"] {
            assert_eq!(asked(Method::DELETE, site), Ok(()));
        }
        for site in ["same-site", "cross-site", "whatever"] {
            assert_eq!(asked(Method::DELETE, site), Err(ApiError::ForeignOrigin));
            assert_eq!(asked(Method::POST, site), Err(ApiError::ForeignOrigin));
        }
    }
}
