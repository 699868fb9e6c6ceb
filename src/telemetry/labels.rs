//! Every label that a metric may carry: closed lists of words.
//!
//! Invariant: no label ever comes from a request; what a request may choose freely (its method) is folded
//! into a list here. The same words stand in the access log, in the admin API and on error pages.

use http::Method;

/// An enum whose variants have a word each.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$item])* $variant,)+ }

        impl $name {
            /// The words of all variants, in their order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Its place in [`Self::WORDS`].
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

words! {
    /// How a request ended.
    Reason {
        /// Answered by an app or by a page of our own.
        Ok = "ok",
        /// No app for host and path.
        NoRoute = "no_route",
        /// The app has no upstream that is up.
        NoUpstream = "no_upstream",
        /// What the answer would acknowledge cannot be kept.
        StoreOutage = "store_outage",
        /// The upstream's name does not resolve.
        DnsFailed = "dns_failed",
        /// The upstream speaks nonsense.
        BadResponse = "bad_response",
        /// The URI is too long.
        UriTooLong = "uri_too_long",
        /// The connection's certificate belongs to another app.
        Misdirected = "misdirected",
        /// The upstream refuses connections.
        ConnectRefused = "connect_refused",
        /// The upstream takes too long to connect.
        ConnectTimeout = "connect_timeout",
        /// TLS with the upstream failed.
        TlsError = "tls_error",
        /// No head of an answer in time.
        FirstByteTimeout = "first_byte_timeout",
        /// The upstream broke off.
        UpstreamReset = "upstream_reset",
        /// The request's body is too large.
        BodyTooLarge = "body_too_large",
        /// The request's head is too large.
        HeaderTooLarge = "header_too_large",
        /// Too many new sessions, or too much load.
        RateLimited = "rate_limited",
        /// The upstream has failed too often of late.
        CircuitOpen = "circuit_open",
        /// This process is about to end.
        Draining = "draining",
        /// The client went away.
        ClientGone = "client_gone",
        /// Malformed, ambiguous or forbidden.
        BadRequest = "bad_request",
    }
}

words! {
    /// Why a bridge session ended.
    EndReason {
        /// Signed out by the person at the proxy.
        UserLogout = "user_logout",
        /// Signed out by the person in an app.
        AppLogout = "app_logout",
        /// Ended by an operator.
        Operator = "operator",
        /// Nobody did anything for too long.
        Idle = "idle",
        /// Its hard end came.
        MaxLifetime = "max_lifetime",
        /// Heartbeats found its app sessions gone.
        HeartbeatLost = "heartbeat_lost",
        /// Another token took its place.
        TokenReplaced = "token_replaced",
        /// Used from where it does not belong.
        BindingMismatch = "binding_mismatch",
        /// The store lost it.
        StoreLost = "store_lost",
        /// The table was full.
        Evicted = "evicted",
        /// Its cookies were handed back to the browser.
        Released = "released",
    }
}

words! {
    /// What a heartbeat proved.
    Verdict {
        /// The app session lives.
        Alive = "alive",
        /// An empty session under the old id.
        Reborn = "reborn",
        /// A new id came back.
        Replaced = "replaced",
        /// A login page, 401, 403, or the token deleted.
        SignedOut = "signed_out",
        /// No usable answer.
        Unreachable = "unreachable",
    }
}

words! {
    /// The state of an app session.
    AppState {
        /// As far as anybody knows it lives.
        Live = "live",
        /// Empty under its old id.
        Reborn = "reborn",
        /// Another id has taken its place.
        Replaced = "replaced",
        /// Signed out.
        SignedOut = "signed_out",
        /// Its app does not answer.
        Unreachable = "unreachable",
    }
}

words! {
    /// What happened to an app session.
    SessionEvent {
        /// The app made it.
        Created = "created",
        /// Its token came in a URL.
        AdoptedFromUrl = "adopted_from_url",
        /// The app gave it a new token.
        Rotated = "rotated",
        /// The app no longer knows it.
        Lost = "lost",
        /// It timed out.
        Expired = "expired",
        /// The person signed out of it.
        SignedOut = "signed_out",
        /// Its server was gone, and it goes on at another one.
        Moved = "moved",
    }
}

words! {
    /// What became of the sign-out request that an app was sent.
    SignOutResult {
        /// Answered below 400.
        Ok = "ok",
        /// Answered otherwise, or not at all.
        Failed = "failed",
        /// Not answered in time.
        Timeout = "timeout",
    }
}

words! {
    /// What the heartbeat page showed of an app session after its sign-out.
    SignOutProof {
        /// The old token opens it no more.
        Dead = "dead",
        /// The old token still opens it.
        StillAlive = "still_alive",
        /// It cannot be told, or not in time.
        Unproven = "unproven",
    }
}

words! {
    /// What became of a token in a URL.
    UrlTokenResult {
        /// The session's own.
        Own = "own",
        /// Cut, nothing else.
        Cut = "cut",
        /// Became the session's.
        Adopted = "adopted",
        /// Not adopted: the request does not prove enough.
        Refused = "refused",
        /// Not adopted: no well shaped value.
        Malformed = "malformed",
        /// Not adopted: too many of late.
        RateLimited = "rate_limited",
        /// Another session of the same person was joined.
        Joined = "joined",
    }
}

words! {
    /// A connection that outlives a request.
    StreamKind {
        /// A WebSocket.
        WebSocket = "websocket",
        /// Server-sent events.
        EventStream = "event_stream",
        /// Any other upgrade.
        Other = "other",
    }
}

/// The methods that have a label of their own; the last one stands for all others.
pub(super) const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

/// Classes of status codes; a code outside 100 to 599 counts as `5xx`.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a method in [`METHODS`].
pub(super) fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|word| *word == method.as_str()).unwrap_or(METHODS.len() - 1)
}

/// The place of a status code's class in [`CLASSES`].
pub(super) fn class_index(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class) - 1,
        _ => CLASSES.len() - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_may_choose_is_folded() {
        let method = |name: &str| METHODS[method_index(&Method::from_bytes(name.as_bytes()).unwrap())];
        assert_eq!(
            [method("GET"), method("PATCH"), method("get"), method("other")],
            ["GET", "PATCH", "other", "other"]
        );
        assert_eq!(
            [99, 100, 204, 599, 600].map(|code| CLASSES[class_index(code)]),
            ["5xx", "1xx", "2xx", "5xx", "5xx"]
        );
    }

    #[test]
    fn places_and_words_agree() {
        assert_eq!(Reason::WORDS[Reason::BadRequest.index()], Reason::BadRequest.as_str());
        assert_eq!(UrlTokenResult::WORDS[UrlTokenResult::Joined.index()], "joined");
    }
}
