//! The engines that can be simulated, and how one application on an engine is set up.
//!
//! Invariant: the kebab-case name of a profile reads back as the same profile.

use std::{fmt, str::FromStr};

use super::{container::Container, look::Skin};

/// One session engine, in one of its modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// ColdFusion before APSB11-04 (February 2011): any pair is adopted in silence.
    AcfLegacy,
    /// ColdFusion 9.0.1 with the hotfix, 10 and later: a pair must be a live session of this application.
    AcfStrict,
    /// ColdFusion with J2EE session variables.
    AcfJ2ee,
    /// Lucee with its own (CF) sessions.
    Lucee,
    /// Lucee with `this.sessionType = "jee"`.
    LuceeJ2ee,
    /// OpenBD and BlueDragon.
    OpenBd,
    /// A servlet container with form login.
    Servlet,
    /// PHP with file sessions: one request of a session at a time.
    PhpLock,
    /// ASP.NET on the .NET Framework, cookies, forms ticket with sliding expiration.
    AspNet,
    /// The same with the session id in the path, `/(S(id))/`.
    AspNetCookieless,
    /// ASP.NET on Mono 6.8.
    AspNetMono,
    /// express-session.
    Express,
    /// Rails with its cookie store.
    Rails,
    /// Django with database sessions, CSRF protection and sign-out by POST only.
    Django,
    /// A J2EE engine that answers 500 "session is invalid" once after an invalidate (CFMX).
    InvalidSession,
}

/// Name, profile, extension of pages, default idle timeout in seconds.
type Row = (&'static str, Profile, &'static str, u64);

const TABLE: [Row; 15] = [
    ("acf-legacy", Profile::AcfLegacy, ".cfm", 20 * 60),
    ("acf-strict", Profile::AcfStrict, ".cfm", 20 * 60),
    ("acf-j2ee", Profile::AcfJ2ee, ".cfm", 20 * 60),
    ("lucee", Profile::Lucee, ".cfm", 30 * 60),
    ("lucee-j2ee", Profile::LuceeJ2ee, ".cfm", 30 * 60),
    ("openbd", Profile::OpenBd, ".cfm", 20 * 60),
    ("servlet", Profile::Servlet, ".jsp", 30 * 60),
    ("php-lock", Profile::PhpLock, ".php", 1440),
    ("aspnet", Profile::AspNet, ".aspx", 20 * 60),
    ("aspnet-cookieless", Profile::AspNetCookieless, ".aspx", 20 * 60),
    ("aspnet-mono", Profile::AspNetMono, ".aspx", 20 * 60),
    ("express", Profile::Express, "", 20 * 60),
    ("rails", Profile::Rails, "", 30 * 60),
    ("django", Profile::Django, "", 14 * 24 * 3600),
    ("invalid-session", Profile::InvalidSession, ".cfm", 20 * 60),
];

impl Profile {
    /// All profiles, in the order of the documents.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.1)
    }

    /// The extension of this engine's pages, with its dot, or nothing.
    pub fn extension(self) -> &'static str {
        self.row().map_or("", |row| row.2)
    }

    /// The idle timeout that the engine comes with, in milliseconds.
    pub fn default_timeout_ms(self) -> u64 {
        self.row().map_or(0, |row| row.3 * 1000)
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.1 == self)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().map_or("", |row| row.0))
    }
}

/// A name that is no profile.
#[derive(Debug, thiserror::Error)]
#[error("no engine profile is called {0:?}")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let row = TABLE.iter().find(|row| row.0 == name);
        row.map(|row| row.1).ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

/// How one application is set up. Start from [`SimOptions::new`] and change fields.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// The engine.
    pub profile: Profile,
    /// What the application calls itself on its pages.
    pub name: String,
    /// The public path it is served under, with a slash at both ends.
    pub mount: String,
    /// Idle timeout of a session (and of a forms ticket), in milliseconds.
    pub timeout_ms: u64,
    /// Ids follow from it: two runs with one seed issue the same ids.
    pub seed: u64,
    /// Whether `ping` shows when the session started (header and body).
    pub canary: bool,
    /// The other application's public URL, which `links` points to with ids in it.
    pub link_to: Option<String>,
    /// Whether a sign-in gives the session a new id.
    pub rotate_on_login: bool,
    /// express, django: every answer renews the expiry (`rolling`, `SAVE_EVERY_REQUEST`).
    pub rolling: bool,
    /// php: the session is renewed in the second half of its life only (as MediaWiki does it).
    pub renew_late: bool,
    /// php: the sign-in holds only for the User-Agent, Accept-Language, Accept-Encoding and address that made
    /// it (as DokuWiki does it).
    pub bind_client: bool,
    /// php: `use_only_cookies=0`, that is, `?PHPSESSID=` is read and printed.
    pub url_ids: bool,
    /// ColdFusion family: a request without a CFID cookie gets a session of two seconds (the idiom against
    /// bots).
    pub bot_idiom: bool,
    /// aspnet-mono: the session id is in the path, `/app/(ID)/`.
    pub cookieless: bool,
    /// servlet family: what a load balancer's node appends to ids (`.node1`), without the dot.
    pub route: Option<String>,
    /// servlet family: behave as Jetty with ids (suffix, no HttpOnly), not as Tomcat.
    pub jetty: bool,
    /// servlet: the Path of the cookie; `None` is the mount without its last slash.
    pub cookie_path: Option<String>,
    /// J2EE profiles: the container shared with other applications; `None` is one of its own.
    pub container: Option<Container>,
    /// How many requests the log keeps; older ones go first.
    pub log_limit: usize,
    /// Writes the HTML pages in the place of the plain ones; JSON stays as it is.
    pub skin: Option<Skin>,
}

impl SimOptions {
    /// An application `name` at `/name/` with the engine's defaults; the seed follows from the name.
    pub fn new(profile: Profile, name: &str) -> Self {
        use Profile::{Django, Express, PhpLock, Servlet};
        Self {
            profile,
            name: name.to_owned(),
            mount: format!("/{name}/"),
            timeout_ms: profile.default_timeout_ms(),
            seed: name.bytes().fold(0x5e55_1074, |seed, byte| seed * 31 + u64::from(byte)),
            canary: true,
            link_to: None,
            rotate_on_login: matches!(profile, Servlet | PhpLock | Express | Django),
            rolling: true,
            renew_late: false,
            bind_client: false,
            url_ids: false,
            bot_idiom: false,
            cookieless: profile == Profile::AspNetCookieless,
            route: None,
            jetty: false,
            cookie_path: None,
            container: None,
            log_limit: 50_000,
            skin: None,
        }
    }

    /// The same with another idle timeout, in milliseconds.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }

    /// The mount without its last slash, `/` for the root: what servlet containers call the context path.
    pub(super) fn context_path(&self) -> &str {
        match self.mount.trim_end_matches('/') {
            "" => "/",
            path => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for profile in Profile::all() {
            assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
        }
        assert_eq!(Profile::all().count(), 15);
        assert!("acf".parse::<Profile>().is_err());
        assert_eq!("openbd".parse::<Profile>().unwrap(), Profile::OpenBd);
    }
}
