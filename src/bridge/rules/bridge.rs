//! What the config says of the bridge as a whole.
//!
//! Plain data: whoever has it need not check it again.

use std::time::Duration;

use super::SameSite;

/// What the proxy does with sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sessions are bridged.
    Bridge,
    /// Every browser is handed its app cookies back, before the proxy is taken out.
    Release,
}

/// The `[bridge]` table: what lives and dies together.
#[derive(Clone, Debug)]
pub struct BridgeRules {
    /// What is done with sessions.
    pub mode: Mode,
    /// The proxy's cookie on TLS; on plain HTTP its name without `__Host-` or `__Secure-`.
    pub cookie: Box<str>,
    /// Its `SameSite`.
    pub same_site: SameSite,
    /// Where the proxy's own pages are: `/.bridge`, without a slash at the end.
    pub prefix: Box<str>,
    /// The three clocks.
    pub clocks: Clocks,
    /// For how long after an app is first served here the cookies that browsers have already are taken over; `None`: never.
    pub adopt_cookies: Option<Duration>,
}

impl BridgeRules {
    /// The name of the proxy's cookie on a connection that is (or is not) TLS for the browser: only TLS allows the prefixes
    /// `__Host-` and `__Secure-` (RFC 6265bis 4.1.3).
    #[must_use]
    pub fn cookie_name(&self, https: bool) -> &str {
        if https {
            return &self.cookie;
        }
        let name = self.cookie.strip_prefix("__Host-").or_else(|| self.cookie.strip_prefix("__Secure-"));
        name.filter(|name| !name.is_empty()).unwrap_or(&self.cookie)
    }
}

/// The three clocks of a bridge session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// No activity in any app for this long ends it.
    pub idle_timeout: Duration,
    /// While a page is provably open, this in place of `idle_timeout`; `None`: presence counts for nothing.
    pub presence_limit: Option<Duration>,
    /// How long one sign of presence counts.
    pub presence_ttl: Duration,
    /// The hard end after creation.
    pub max_lifetime: Duration,
}
