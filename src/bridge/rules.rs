//! What the core knows of an app and of the bridge as a whole: the config, parsed into the words of the product.
//!
//! Plain data, built once by `config` and shared unchanged. Nothing here needs checking again: a value that exists is
//! usable.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use regex::bytes::Regex;

use super::mount::Mount;
use super::share::Share;
use crate::wire::pattern::{Glob, Pattern};

/// An app's number, which is its own for ever (see [`crate::names`]): the key of its part of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppIx(pub u16);

impl AppIx {
    /// As an index into a list by number, which may have holes.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All that the core knows of one app.
#[derive(Clone, Debug)]
pub struct AppRules {
    /// Its key.
    pub app: AppIx,
    /// Its name in the config.
    pub name: Arc<str>,
    /// Where it stands in the public URL space.
    pub mount: Mount,
    /// Absent: the app is proxied plainly, it has no session here.
    pub session: Option<SessionRules>,
    /// Absent: it is not kept alive.
    pub beat: Option<BeatRules>,
    /// How its sign-out is seen and asked for.
    pub sign_out: SignOutRules,
}

/// How an app keeps its sessions.
#[derive(Clone, Debug)]
pub struct SessionRules {
    /// The preset that this came from.
    pub engine: Engine,
    /// Its tokens. The first one of them that an app session holds decides whether that session lives; see [`TokenRule`].
    pub tokens: Vec<TokenRule>,
    /// How long the app keeps a session that nobody uses.
    pub timeout: Duration,
    /// Where its token cookies are kept.
    pub cookies: CookieMode,
    /// True: token cookies keep their expiry on the way to the browser (modes `prefix` and `pass`).
    pub persistent: bool,
    /// Exceptions by cookie name, first match wins.
    pub exceptions: Vec<(Glob, Disposition)>,
    /// Put on cookies that pass to the browser.
    pub set_cookie: SetCookiePolicy,
    /// Parameters that carry tokens in URLs arriving at this app.
    pub url_tokens: Vec<UrlToken>,
    /// True: the app sees mapped parameters all the same. Never raw token names.
    pub keep_url_tokens: bool,
    /// What is done with raw token names in urlencoded bodies. Only engines that read them there are asked.
    pub form_tokens: FormTokens,
    /// When a URL token may be adopted.
    pub adopt: Adopt,
    /// The other apps that have one session with this one; empty: none.
    pub shares: Vec<Share>,
}

/// A preset of `session.engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the engines' own names")]
pub enum Engine {
    ColdFusion,
    Lucee,
    OpenBd,
    BoxLang,
    Servlet,
    Php,
    AspNet,
    AspNetCore,
    Django,
    Express,
    Rails,
    Custom,
}

impl Engine {
    /// ColdFusion and OpenBD read token names from urlencoded bodies (engines.md's part 2: OpenBD URL, FORM, cookie).
    #[must_use]
    pub const fn reads_forms(self) -> bool {
        matches!(self, Self::ColdFusion | Self::OpenBd)
    }

    /// Engines whose `URLSessionFormat` prints ids into the page when a request has no cookie at all.
    #[must_use]
    pub const fn wants_a_cookie(self) -> bool {
        matches!(self, Self::ColdFusion | Self::Lucee | Self::BoxLang)
    }

    /// Engines whose answer to an id that they do not know may look like the answer to one that they know: an empty session
    /// under the old id (seen on Lucee, PHP, ASP.NET and older ColdFusion; ASP.NET Core's session middleware keeps the key of a cookie that it can
    /// decrypt), or no cookie at all until something is stored (express-session with `saveUninitialized` off). Only a canary
    /// tells. Of an engine that nobody knows the worst is assumed.
    #[must_use]
    pub const fn adopts_unknown_ids(self) -> bool {
        !matches!(self, Self::Servlet | Self::BoxLang | Self::Django | Self::Rails)
    }
}

/// One token: what points to an app session. Its parts are taken, replaced and dropped together.
#[derive(Clone, Debug)]
pub struct TokenRule {
    /// At least one; `CFID` and `CFTOKEN` are two parts of one token.
    pub parts: Vec<PartRule>,
    /// Its value changes with use (a forms ticket, a cookie store): a new value is no verdict.
    pub rolling: bool,
}

/// One part of a token and where it rides.
#[derive(Clone, Debug)]
pub struct PartRule {
    /// The name that the config and the engine use for it, compared without case.
    pub name: Box<str>,
    /// The cookie that carries it (name compared after folding); the app's own spelling is kept beside the value.
    pub cookie: Option<Box<str>>,
    /// The query (and form) parameter that carries it.
    pub query: Option<Box<str>>,
    /// The path parameter that carries it: `;jsessionid=`.
    pub path_param: Option<Box<str>>,
    /// True: it may be a path segment of its own behind the mount, `/(S(id))/` or Mono's `/(ID)/`.
    pub segment: bool,
    /// Which values are well shaped. Asked before a URL token or a browser's own cookie is believed, never of the app.
    pub shape: Shape,
}

/// Which values of a token part are well shaped.
#[derive(Clone, Debug)]
pub struct Shape(Regex);

impl Shape {
    /// From a regular expression that must match the whole value.
    ///
    /// # Errors
    /// Where `pattern` is no regular expression.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        regex::bytes::RegexBuilder::new(&format!("^(?:{pattern})$")).unicode(false).build().map(Self)
    }

    /// True where all of `value` matches.
    #[must_use]
    pub fn fits(&self, value: &[u8]) -> bool {
        self.0.is_match(value)
    }
}

/// Where an app's token cookies are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieMode {
    /// In the proxy.
    Vault,
    /// In the browser, under a name of their own per app.
    Prefix,
    /// In the browser, as they are; the proxy only watches.
    Pass,
}

/// What is done with one cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Kept in the proxy.
    Vault,
    /// Sent to the browser as `APP.NAME`.
    Prefix,
    /// Sent to the browser, path and domain mapped.
    Pass,
    /// Sent to the browser untouched.
    AsIs,
    /// Taken away in both directions.
    Drop,
}

/// Attributes put on cookies that pass to the browser. `None`: as the app sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the attributes' own names")]
pub struct SetCookiePolicy {
    pub secure: Option<bool>,
    pub http_only: Option<bool>,
    pub same_site: Option<SameSite>,
    pub partitioned: Option<bool>,
}

/// The `SameSite` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the attribute's own values")]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

impl SameSite {
    /// As written in a Set-Cookie field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// One parameter that carries a token part of some app in URLs arriving at this one.
#[derive(Clone, Debug)]
pub struct UrlToken {
    /// The parameter's name, compared without case after decoding.
    pub param: Box<str>,
    /// Whose token it is.
    pub app: AppIx,
    /// Which of that app's tokens: an index into its [`SessionRules::tokens`].
    pub token: usize,
    /// Which part of it.
    pub part: usize,
}

/// When a URL token may be adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// A top-level navigation that Fetch Metadata proves.
    Proven,
    /// Also clients without Fetch Metadata, and plain HTTP.
    Legacy,
    /// Never.
    Never,
}

/// What is done with raw token names in urlencoded bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the config's own words")]
pub enum FormTokens {
    Cut,
    Pass,
}

/// How an app is kept alive.
#[derive(Clone, Debug)]
pub struct BeatRules {
    /// The public path and query of the page that is asked.
    pub path: Box<str>,
    /// GET or HEAD.
    pub method: Method,
    /// How long after the app's last request; `None`: a third of the app's timeout.
    pub every: Option<Duration>,
    /// Share of the interval by which a heartbeat may come earlier or later, in percent, 0 to 50.
    pub jitter_percent: u8,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many may be in flight at this app at once.
    pub max_in_flight: usize,
    /// How many may be sent to this app a second; `None`: any number.
    pub max_rate: Option<u32>,
    /// How long after the last activity in this app its heartbeats stop; `None`: with the bridge session.
    pub limit: Option<Duration>,
    /// What an answer must look like to be `alive`.
    pub alive: Alive,
    /// Something in the answer that is the same as long as the session is.
    pub canary: Option<Canary>,
}

/// What a heartbeat's answer must look like to be `alive`.
#[derive(Clone, Debug)]
pub struct Alive {
    /// Statuses, as inclusive ranges.
    pub status: Vec<(u16, u16)>,
    /// What the decoded body must contain, within its first 64 KiB; empty: anything.
    pub contains: Box<str>,
}

/// Where in an answer the canary is.
#[derive(Clone, Debug)]
pub enum Canary {
    /// A header's value.
    Header(HeaderName),
    /// A value in a JSON body, by path: `session.started` or `/session/started`.
    Json(Box<str>),
    /// The first group (or all) of a match in the body.
    Regex(Regex),
}

/// How far a sign-out reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every app of the bridge session is signed out.
    Together,
    /// Only the app itself.
    Alone,
}

/// How an app's sign-out is seen and asked for.
#[derive(Clone, Debug)]
pub struct SignOutRules {
    /// How far one seen in this app reaches.
    pub scope: Scope,
    /// Requests that are a sign-out when answered below 400. Empty: a token deleted or replaced in answer to a URL that says
    /// so in a word of its own.
    pub detect: Vec<Pattern>,
    /// How the app is asked to sign a session out; `None`: it is not.
    pub recipe: Option<Recipe>,
    /// Sign-in pages: a redirect to one means signed out, a form posted to one is a sign-in.
    pub login: Vec<Pattern>,
}

/// How an app is asked to sign a session out. Paths are public, with their queries; what an action or a link is compared with
/// is its public path in normal form and, where the pattern has one, its query.
#[derive(Clone, Debug)]
pub enum Recipe {
    /// One request.
    Request {
        /// GET or POST.
        method: Method,
        /// What is asked for.
        target: Box<str>,
    },
    /// A page, and the form on it that is sent with its hidden fields: for apps that want a CSRF token.
    Form {
        /// The page.
        page: Box<str>,
        /// Where the form leads.
        action: Pattern,
    },
    /// A page, and the link on it that is followed.
    Link {
        /// The page.
        page: Box<str>,
        /// Where the link leads.
        href: Pattern,
    },
}

/// The `[bridge]` table: what lives and dies together.
#[derive(Clone, Debug)]
pub struct BridgeRules {
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

/// One `[[rules]]` entry.
#[derive(Clone, Debug)]
pub struct RequestRule {
    /// The requests it is about: method and public path.
    pub pattern: Pattern,
    /// True: such a request is background, not activity.
    pub background: bool,
    /// True: such a request runs without a session.
    pub skip_session: bool,
}
