//! Where an app is: what a URL of the command line says, and why one cannot be drafted.
//!
//! Invariant: a place has a plain mount that a config takes as it is, and only http.

use crate::net::upstream::Origin;
use crate::net::{OriginError, SendError};

use super::links::is_plain;
use crate::wire::path;

/// An app's place.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The server.
    pub(super) origin: Origin,
    /// The server as `upstreams` names it: `http://host:port`.
    pub(super) upstream: String,
    /// Host and port as browsers write them in `Host`.
    pub(super) authority: String,
    /// The host alone, lower case.
    pub(super) host: String,
    /// The app's own path, with a slash at both ends.
    pub(super) mount: String,
    /// What is asked for first: path and query.
    pub(super) entry: String,
}

/// Why there is no draft for a URL.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It is no URL of a server.
    #[error("this is no URL of an app: write http://host:port/path/")]
    Url,
    /// The server's part of it is wrong.
    #[error("this is no URL of an app")]
    Server(#[source] OriginError),
    /// TLS to apps is not built yet.
    #[error("https to apps is not supported yet: name the address where the app answers plain http")]
    Https,
    /// Its path cannot be an app's.
    #[error("its path cannot be an app's: letters, digits and the likes of `-_.` only")]
    Path,
    /// No connection, or no answer.
    #[error("it cannot be reached")]
    Unreachable(#[source] SendError),
    /// No HTTP comes back.
    #[error("what answers there speaks no HTTP")]
    NotHttp(#[source] SendError),
    /// Not in time.
    #[error("it does not answer within {0} seconds")]
    Slow(u64),
    /// Its first page is a failure.
    #[error("{path} answers {status}: is the path right, and is the app running?")]
    Failing {
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
    },
    /// Its first page is something else.
    #[error("{path} is no web page, but {kind}")]
    NoPage {
        /// What was asked for.
        path: String,
        /// The media type.
        kind: String,
    },
}

impl From<SendError> for Trouble {
    fn from(error: SendError) -> Self {
        match error {
            SendError::BadResponse(_) | SendError::AmbiguousLength | SendError::Unasked => {
                Self::NotHttp(error)
            }
            other => Self::Unreachable(other),
        }
    }
}

impl Place {
    /// Reads a URL: `http://host:port/AppA/`, `http://host/AppA/index.cfm`, `http://host`.
    pub(super) fn parse(url: &str) -> Result<Self, Trouble> {
        let scheme = |name: &str| url.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
        if scheme("https://") {
            return Err(Trouble::Https);
        }
        if !scheme("http://") {
            return Err(Trouble::Url);
        }
        let rest = url.get("http://".len()..).unwrap_or_default().split('#').next().unwrap_or_default();
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let origin: Origin = format!("http://{authority}").parse().map_err(Trouble::Server)?;
        let Origin::Tcp { host, .. } = &origin else { return Err(Trouble::Url) };
        let host = host.clone();
        let is_name = |octet: u8| octet.is_ascii_alphanumeric() || b".-_:".contains(&octet);
        if !host.bytes().all(is_name) {
            return Err(Trouble::Url);
        }
        let entry = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let path = entry.split('?').next().unwrap_or("/");
        let mount = mount(path);
        if !is_plain(&mount) || !is_inside(&mount, path) || entry.parse::<http::uri::PathAndQuery>().is_err()
        {
            return Err(Trouble::Path);
        }
        let upstream = origin.to_string();
        Ok(Self { upstream, authority: authority.to_ascii_lowercase(), host, mount, entry, origin })
    }

    /// True where `path` belongs to the app, to every server that may read it: what some take for another path (dot segments
    /// and slashes in disguise, anything escaped twice) belongs to none.
    pub(super) fn contains(&self, path: &str) -> bool {
        is_inside(&self.mount, path)
    }
}

/// True where both the path and its normal form begin with `mount`.
pub(super) fn is_inside(mount: &str, path: &str) -> bool {
    let within = |path: &str| path.starts_with(mount) || path == mount.trim_end_matches('/');
    // The normal form keeps these escapes: servers differ on them.
    path::normal(path).is_ok_and(|normal| {
        within(path) && within(&normal) && !normal.contains(['\\', ';']) && !is_twice(&normal)
    })
}

fn is_twice(normal: &str) -> bool {
    let lower = normal.to_ascii_lowercase();
    ["%2f", "%5c", "%25"].iter().any(|escape| lower.contains(escape))
}

/// The folder of an app's first page. A last segment is that page where it has a dot or is called like one, else a folder.
fn mount(path: &str) -> String {
    const PAGES: [&str; 8] = ["index", "default", "home", "main", "welcome", "login", "start", "portal"];
    let folder = path.rfind('/').map_or("/", |at| path.get(..=at).unwrap_or("/"));
    let last = path.get(folder.len()..).unwrap_or_default();
    let is_page = last.contains('.') || PAGES.iter().any(|page| last.eq_ignore_ascii_case(page));
    if last.is_empty() || is_page { folder.to_owned() } else { format!("{path}/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let read = |url| {
            let place = Place::parse(url).unwrap();
            (place.upstream, place.authority, place.mount, place.entry)
        };
        let of = |a: &str, b: &str, c: &str, d: &str| (a.into(), b.into(), c.into(), d.into());
        assert_eq!(
            read("http://127.0.0.1:8501/AppA/"),
            of("http://127.0.0.1:8501", "127.0.0.1:8501", "/AppA/", "/AppA/")
        );
        assert_eq!(
            read("HTTP://Apps.Example.org/x/AppA/index.cfm?a=1#top"),
            of("http://apps.example.org:80", "apps.example.org", "/x/AppA/", "/x/AppA/index.cfm?a=1")
        );
        assert_eq!(read("http://[::1]:80/AppA"), of("http://[::1]:80", "[::1]:80", "/AppA/", "/AppA"));
        assert_eq!(read("http://a/AppA/index"), of("http://a:80", "a", "/AppA/", "/AppA/index"));
        assert_eq!(read("http://a"), of("http://a:80", "a", "/", "/"));
    }

    #[test]
    fn no_disguise_leads_out_of_the_app() {
        let place = Place::parse("http://a/AppA/").unwrap();
        for good in ["/AppA", "/AppA/", "/AppA/x.jsp;v=1", "/AppA/(S(abc))/x", "/AppA/a%20b"] {
            assert!(place.contains(good), "{good}");
        }
        for bad in [
            "/AppA/../x",
            "/AppA/%2e%2e/x",
            "/AppA/.%2E/x",
            "/AppA/..;/x",
            "/AppA/..;a=1/x",
            "/AppA/..\\x",
            "/AppA/\\x",
            "/AppA/..%2fx",
            "/AppA/x%2Fy",
            "/AppA/x%5cy",
            "/AppA/%252e%252e/x",
            "/AppA/%c0%ae%c0%ae/x",
            "/AppAx",
            "/appa/x",
            "//AppA/x",
        ] {
            assert!(!place.contains(bad), "{bad}");
        }
        assert!(matches!(Place::parse("http://a/AppA/..;x.jsp"), Err(Trouble::Path)));
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        for bad in ["127.0.0.1:80", "ftp://a/", "http://", "http://u:p@a/", "http://a b/", "http://a\"b/", ""]
        {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(Place::parse("https://a/"), Err(Trouble::Https)));
        for bad in [
            "http://a/x y/",
            "http://a/%41/",
            "http://a/x//y/",
            "http://a/*/",
            "http://a/../",
            "http://a/${X}/",
        ] {
            assert!(matches!(Place::parse(bad), Err(Trouble::Path)), "{bad}");
        }
    }
}
