//! Answers that the proxy itself writes: errors, redirects, its own pages.
//!
//! Invariant: each carries `Cache-Control: no-store`; an error also says `X-Bridge-Error`; none holds a token, and text is
//! escaped where it is put into HTML.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::error::Error;
use crate::net::body::Body;
use crate::wire::html::{capitalised, escape};

/// Names the reason of an answer that no app gave.
pub const X_BRIDGE_ERROR: HeaderName = HeaderName::from_static("x-bridge-error");

/// Which form of an answer a client would rather have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A page.
    Html,
    /// Data.
    Json,
}

impl Form {
    /// By `Accept`: a page for whoever names `text/html`, data for everybody else.
    #[must_use]
    pub fn wanted(headers: &HeaderMap) -> Self {
        let names_html = |value: &HeaderValue| {
            let value = value.as_bytes();
            value.windows(9).any(|window| window.eq_ignore_ascii_case(b"text/html"))
        };
        if headers.get_all(ACCEPT).iter().any(names_html) { Self::Html } else { Self::Json }
    }
}

/// An answer with a body of its own.
#[must_use]
pub fn own(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if content_type.starts_with("text/html") {
        let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
        headers.insert(HeaderName::from_static("content-security-policy"), HeaderValue::from_static(policy));
    }
    response
}

/// A page of the proxy's own, in its one layout. `body` is HTML, `title` is text.
#[must_use]
pub fn page(status: StatusCode, title: &str, body: &str) -> Response<Body> {
    let title = escape(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
         <main><h1>{title}</h1>{body}</main></html>"
    );
    own(status, "text/html; charset=utf-8", html)
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1c2330}\
main{max-width:40rem;margin:12vh auto;padding:2rem 2.5rem;background:#fff;border-radius:12px;\
box-shadow:0 1px 4px #0002}h1{font-size:1.4rem;margin-top:0}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.35rem .5rem;border-bottom:1px solid #e3e6ea}small,code{color:#5b6472}\
button{font:inherit;padding:.5rem 1.1rem;border:0;border-radius:8px;background:#2456c5;color:#fff;cursor:pointer}\
@media(prefers-color-scheme:dark){body{background:#14181f;color:#e6e9ee}main{background:#1d232d}\
td,th{border-color:#333b48}small,code{color:#9aa4b2}}";

/// The answer to a request that failed here.
#[must_use]
pub fn error(error: &Error, form: Form, app: Option<&str>, request_id: &str) -> Response<Body> {
    let (status, word) = (error.status(), error.reason().as_str());
    let mut response = match form {
        Form::Json => own(status, "application/json", json(error, app, request_id)),
        Form::Html => {
            let whose =
                app.map(|app| format!("<p>App: <strong>{}</strong></p>", escape(app))).unwrap_or_default();
            let body = format!(
                "<p>{}.</p>{whose}<p><small>Reason <code>{word}</code>, request <code>{}</code>. This page is the \
                 session bridge's own; the app did not write it.</small></p>",
                escape(&capitalised(&error.to_string())),
                escape(request_id)
            );
            page(status, status.canonical_reason().unwrap_or("Error"), &body)
        }
    };
    let headers = response.headers_mut();
    headers.insert(X_BRIDGE_ERROR, HeaderValue::from_static(word));
    if let Some(seconds) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.closes() {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(
            http::header::ALLOW,
            HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        );
    }
    response
}

fn json(error: &Error, app: Option<&str>, request_id: &str) -> String {
    let word = error.reason().as_str();
    serde_json::json!({"error": word, "message": error.to_string(), "app": app, "request_id": request_id})
        .to_string()
}

/// The whole answer where there was no request to answer, as HTTP/1.1 says it: 400, 414, 431 to a head, 503 to a
/// connection.
#[must_use]
pub fn unasked(status: StatusCode, request_id: &str) -> Bytes {
    let error = match status {
        StatusCode::URI_TOO_LONG => Error::UriTooLong,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Error::HeaderTooLarge,
        StatusCode::SERVICE_UNAVAILABLE => Error::Overloaded,
        _ => Error::Unreadable,
    };
    let body = json(&error, None, request_id);
    let mut said = format!(
        "HTTP/1.1 {}\r\nX-Request-Id: {request_id}\r\nContent-Length: {}\r\n",
        error.status(),
        body.len()
    )
    .into_bytes();
    for (name, value) in self::error(&error, Form::Json, None, request_id).headers() {
        said.extend_from_slice(name.as_str().as_bytes());
        said.extend_from_slice(b": ");
        said.extend_from_slice(value.as_bytes());
        said.extend_from_slice(b"\r\n");
    }
    said.extend_from_slice(b"\r\n");
    said.extend_from_slice(body.as_bytes());
    said.into()
}

/// A 303 to `location`, which tells nobody where it came from.
#[must_use]
pub fn see_other(location: &str) -> Response<Body> {
    redirect(StatusCode::SEE_OTHER, location)
}

/// A redirect; where `location` is no field value, to nowhere.
#[must_use]
pub fn redirect(status: StatusCode, location: &str) -> Response<Body> {
    let mut response = own(status, "text/plain; charset=utf-8", String::new());
    let headers = response.headers_mut();
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(location) = HeaderValue::from_str(location) {
        headers.insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_html_gets_a_page() {
        let with = |accept| HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        assert_eq!(Form::wanted(&with("text/html,application/xhtml+xml")), Form::Html);
        assert_eq!(Form::wanted(&with("application/json")), Form::Json);
        assert_eq!(Form::wanted(&HeaderMap::new()), Form::Json);
    }

    #[test]
    fn an_error_names_its_reason_and_is_not_cached() {
        let response = error(&Error::NoRoute, Form::Html, Some("<app>"), "r1");
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[X_BRIDGE_ERROR], "no_route");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    }
}
