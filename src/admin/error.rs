//! Why an operator's request is refused: `{"error": word, "message"}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use serde_json::json;

/// Why a request is refused. No message repeats anything of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    #[error("this needs `Authorization: Bearer` with the token of `admin.token`")]
    Unauthorized,
    #[error("the request names no host, or several")]
    NoHost,
    #[error("without an `admin.token` only a local host name is served: localhost, 127.0.0.1 or [::1]")]
    ForeignHost,
    #[error("a page of another origin may not ask this")]
    ForeignOrigin,
    #[error("there is nothing at this path")]
    NoPath,
    #[error("this path knows other methods: see `Allow`")]
    Method,
    #[error("no session has this id; ids are 16 hexadecimal digits")]
    NoSession,
    #[error("no live session has this id; it has ended already")]
    Ended,
    #[error(
        "the query is not understood: `limit` (1 to 1000), `cursor`, `app` and `state` (bound, pending, ended)"
    )]
    Query,
    #[error("no app has this name")]
    NoApp,
    #[error("the config was read from no file here, or the proxy is stopping")]
    NoReload,
    #[error("the proxy is stopping")]
    Stopping,
}

impl ApiError {
    const fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::NoHost | Self::Query => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::ForeignHost | Self::ForeignOrigin => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NoPath | Self::NoSession | Self::Ended => (StatusCode::NOT_FOUND, "not_found"),
            Self::NoApp => (StatusCode::BAD_REQUEST, "unknown_app"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::NoReload => (StatusCode::SERVICE_UNAVAILABLE, "no_reload"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, word) = self.parts();
        let body = json!({"error": word, "message": self.to_string()});
        let mut response = (status, Json(body)).into_response();
        if self == Self::Unauthorized {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
