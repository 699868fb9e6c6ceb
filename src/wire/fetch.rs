//! Fetch Metadata: what a browser says about where a request comes from (W3C Fetch Metadata Request Headers).
//!
//! Invariant: page script cannot set these headers, so they win over Origin; an absent one is unknown, never
//! safe.

use http::Method;
use http::header::HeaderValue;

use super::fields::{Fields, Found};
use super::target::split_authority;

/// The three headers, as far as they are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// `Sec-Fetch-Site`.
    pub site: Option<Site>,
    /// `Sec-Fetch-Mode`.
    pub mode: Option<Mode>,
    /// `Sec-Fetch-Dest`.
    pub dest: Option<Dest>,
}

/// How the page that made the request relates to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// Same scheme, host and port.
    SameOrigin,
    /// Same registrable domain.
    SameSite,
    /// Another site.
    CrossSite,
    /// No page: typed, bookmarked.
    None,
    /// A word this does not know.
    Other,
}

/// The mode of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A navigation, top-level or in a frame.
    Navigate,
    /// A WebSocket handshake.
    WebSocket,
    /// Script with CORS.
    Cors,
    /// Images, plain scripts.
    NoCors,
    /// Any other word.
    Other,
}

/// What the answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dest {
    /// A top-level page.
    Document,
    /// A frame: `iframe` or `frame`.
    Frame,
    /// An image.
    Image,
    /// Script: fetch, XMLHttpRequest, beacons.
    Empty,
    /// Any other word.
    Other,
}

impl Fetch {
    /// Reads the headers; a repeated one counts as `Other`.
    pub fn of(fields: &Fields<'_>) -> Self {
        Self {
            site: word(fields.fetch_site).map(|word| match word {
                b"same-origin" => Site::SameOrigin,
                b"same-site" => Site::SameSite,
                b"cross-site" => Site::CrossSite,
                b"none" => Site::None,
                _ => Site::Other,
            }),
            mode: word(fields.fetch_mode).map(|word| match word {
                b"navigate" => Mode::Navigate,
                b"websocket" => Mode::WebSocket,
                b"cors" => Mode::Cors,
                b"no-cors" => Mode::NoCors,
                _ => Mode::Other,
            }),
            dest: word(fields.fetch_dest).map(|word| match word {
                b"document" => Dest::Document,
                b"iframe" | b"frame" => Dest::Frame,
                b"image" => Dest::Image,
                b"empty" => Dest::Empty,
                _ => Dest::Other,
            }),
        }
    }

    /// Whether the browser sent any of them. Old ones, and all on plain HTTP (but for localhost), send none.
    pub fn is_present(self) -> bool {
        self.site.is_some() || self.mode.is_some() || self.dest.is_some()
    }
}

/// Whether this is a top-level navigation: by the metadata alone where there is some, otherwise a GET that
/// accepts text/html. With metadata any method can be one.
pub fn is_navigation(method: &Method, fetch: Fetch, accept: Option<&HeaderValue>) -> bool {
    if fetch.is_present() {
        return fetch.mode == Some(Mode::Navigate) && fetch.dest == Some(Dest::Document);
    }
    method == Method::GET && accept.is_some_and(accepts_html)
}

/// Whether another site made this request: by Sec-Fetch-Site, otherwise by Origin. `None` where neither
/// tells.
///
/// An Origin is of the same site if its host is `own_host` (without port), or a name that shares its last two
/// labels; that is no list of public suffixes, and takes two sites below `co.uk` for one. `null` is another
/// site.
pub fn cross_site(fetch: Fetch, origin: Option<&HeaderValue>, own_host: &str) -> Option<bool> {
    match fetch.site {
        Some(Site::CrossSite | Site::Other) => return Some(true),
        Some(Site::SameOrigin | Site::SameSite | Site::None) => return Some(false),
        None => {}
    }
    let origin = origin?.to_str().unwrap_or("null");
    let host =
        origin.split_once("://").and_then(|(_, authority)| split_authority(authority)).map(|(host, _)| host);
    Some(host.is_none_or(|host| !same_site(host, own_host)))
}

fn same_site(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_end_matches('.'), other.trim_end_matches('.'));
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    match (site(one), site(other)) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => false,
    }
}

/// The last two labels of a name; `None` for addresses and single labels.
fn site(host: &str) -> Option<&str> {
    if host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return None;
    }
    let (above, _) = host.rsplit_once('.')?;
    let start = above.rfind('.').map_or(0, |dot| dot + 1);
    host.get(start..)
}

fn accepts_html(accept: &HeaderValue) -> bool {
    accept.as_bytes().split(|&octet| octet == b',').any(|range| {
        let kind = range.split(|&octet| octet == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"text/html")
    })
}

fn word(found: Found<'_>) -> Option<&[u8]> {
    let first = found.first()?;
    Some(if found.is_repeated() { b"" } else { first.as_bytes() })
}

#[cfg(test)]
mod tests {
    use http::header::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn fetch(site: &'static str, mode: &'static str, dest: &'static str) -> Fetch {
        let mut headers = HeaderMap::new();
        for (name, value) in [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)] {
            if !value.is_empty() {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        Fetch::of(&Fields::of(&headers))
    }

    #[test]
    fn navigations() {
        let html = HeaderValue::from_static("image/png, TEXT/html;q=0.9");
        let any = HeaderValue::from_static("*/*");
        let none = Fetch::default();
        assert!(is_navigation(&Method::GET, none, Some(&html)));
        assert!(!is_navigation(&Method::POST, none, Some(&html)));
        assert!(!is_navigation(&Method::GET, none, Some(&any)) && !is_navigation(&Method::GET, none, None));
        assert!(is_navigation(&Method::GET, fetch("none", "navigate", "document"), None));
        for (mode, dest) in [("navigate", "iframe"), ("navigate", ""), ("no-cors", "image"), ("", "document")]
        {
            assert!(
                !is_navigation(&Method::GET, fetch("same-origin", mode, dest), Some(&html)),
                "{mode} {dest}"
            );
        }
    }

    #[test]
    fn a_repeated_header_is_not_believed() {
        let mut headers = HeaderMap::new();
        headers.append("sec-fetch-site", HeaderValue::from_static("same-origin"));
        headers.append("sec-fetch-site", HeaderValue::from_static("same-origin"));
        assert_eq!(Fetch::of(&Fields::of(&headers)).site, Some(Site::Other));
    }

    #[test]
    fn sites() {
        for (site, cross) in [
            ("cross-site", true),
            ("same-site", false),
            ("same-origin", false),
            ("none", false),
            ("odd", true),
        ] {
            let evil = HeaderValue::from_static("https://evil.org");
            assert_eq!(cross_site(fetch(site, "", ""), Some(&evil), "a.org"), Some(cross), "{site}");
        }
        assert_eq!(cross_site(Fetch::default(), None, "a.org"), None);
        for (origin, cross) in [
            ("https://apps.example.org", false),
            ("http://APPS.example.org:8080", false),
            ("https://other.example.org", false),
            ("https://example.org", false),
            ("https://example.com", true),
            ("https://evilexample.org", true),
            ("null", true),
            ("", true),
            ("https://127.0.0.1", true),
        ] {
            let origin_value = HeaderValue::from_static(origin);
            assert_eq!(
                cross_site(Fetch::default(), Some(&origin_value), "apps.example.org"),
                Some(cross),
                "{origin}"
            );
        }
        let neighbour = HeaderValue::from_static("http://10.0.0.2");
        assert_eq!(cross_site(Fetch::default(), Some(&neighbour), "10.0.0.3"), Some(true));
    }

    proptest! {
        #[test]
        fn the_own_host_is_never_cross(host in "[a-z0-9]{1,5}(\\.[a-z0-9]{1,5}){0,3}", port in 1_u16..) {
            let origin = HeaderValue::from_str(&format!("https://{host}:{port}")).unwrap();
            prop_assert_eq!(cross_site(Fetch::default(), Some(&origin), &host), Some(false));
        }
    }
}
