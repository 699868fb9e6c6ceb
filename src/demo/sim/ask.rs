//! A request as an application reads it: page, parameters, cookies.
//!
//! Invariant: parsing never fails; what cannot be read is not there.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use percent_encoding::percent_decode_str;

type Pairs = Vec<(String, String)>;

/// One request, taken apart.
pub(super) struct Ask {
    pub(super) method: Method,
    /// The stem of the page in lower case: `index` of `/AppA/index.cfm`; `None` outside the mount.
    pub(super) page: Option<String>,
    pub(super) path_and_query: String,
    /// The path without path parameters.
    pub(super) path: String,
    pub(super) query: Pairs,
    pub(super) form: Pairs,
    pub(super) cookies: Pairs,
    pub(super) path_params: Pairs,
    /// The content of `(...)` or `(S(...))` as the first segment below the mount.
    pub(super) segment: Option<String>,
    pub(super) json: bool,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) address: IpAddr,
}

impl Ask {
    pub(super) fn new(request: &Request<Bytes>, mount: &str, address: IpAddr) -> Self {
        let (path, path_params) = split_path_params(request.uri().path());
        let headers = request.headers().clone();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_form = text(header::CONTENT_TYPE).starts_with("application/x-www-form-urlencoded");
        let form = if is_form { pairs(&String::from_utf8_lossy(request.body())) } else { Pairs::new() };
        let query = pairs(request.uri().query().unwrap_or_default());
        let json =
            text(header::ACCEPT).contains("application/json") || query.iter().any(|(name, _)| name == "json");
        let cookies =
            headers.get_all(header::COOKIE).iter().flat_map(|line| cookies(line.as_bytes())).collect();
        let (page, segment) = page(&path, mount);
        let path_and_query = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
        Self {
            method: request.method().clone(),
            page,
            path_and_query,
            path,
            query,
            form,
            cookies,
            path_params,
            segment,
            json,
            body: request.body().clone(),
            address,
            headers,
        }
    }

    /// The first query parameter of that name, letter case included.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        first(&self.query, |n| n == name)
    }

    pub(super) fn query_any_case(&self, name: &str) -> Option<&str> {
        first(&self.query, |n| n.eq_ignore_ascii_case(name))
    }

    pub(super) fn form(&self, name: &str) -> Option<&str> {
        first(&self.form, |n| n == name)
    }

    pub(super) fn form_any_case(&self, name: &str) -> Option<&str> {
        first(&self.form, |n| n.eq_ignore_ascii_case(name))
    }

    /// The first cookie of that name, letter case included.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        first(&self.cookies, |n| n == name)
    }

    pub(super) fn cookie_any_case(&self, name: &str) -> Option<&str> {
        first(&self.cookies, |n| n.eq_ignore_ascii_case(name))
    }

    /// Every cookie of that name, in order, letter case ignored.
    pub(super) fn cookies_any_case<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.cookies.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The `;name=value` of the path, letter case ignored.
    pub(super) fn path_param(&self, name: &str) -> Option<&str> {
        first(&self.path_params, |n| n.eq_ignore_ascii_case(name))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

fn first(pairs: &[(String, String)], name: impl Fn(&str) -> bool) -> Option<&str> {
    pairs.iter().find(|(n, _)| name(n)).map(|(_, value)| value.as_str())
}

/// `/AppA;a=1/index.jsp;jsessionid=X` is the path `/AppA/index.jsp` and two parameters.
fn split_path_params(path: &str) -> (String, Pairs) {
    let mut params = Pairs::new();
    let segments = path.split('/').map(|segment| {
        let mut parts = segment.split(';');
        let name = parts.next().unwrap_or_default();
        params
            .extend(parts.filter_map(|part| part.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())));
        name
    });
    (segments.collect::<Vec<_>>().join("/"), params)
}

fn page(path: &str, mount: &str) -> (Option<String>, Option<String>) {
    let Some(below) =
        path.strip_prefix(mount).or_else(|| (path == mount.trim_end_matches('/')).then_some(""))
    else {
        return (None, None);
    };
    let (segment, rest) = match below.split_once('/') {
        Some((first, rest)) if first.starts_with('(') && first.ends_with(')') => (Some(inner(first)), rest),
        _ => (None, below),
    };
    let stem = match rest.to_ascii_lowercase() {
        whole if matches!(whole.as_str(), "static.css" | "builder.xml") => whole,
        whole => whole.split('.').next().unwrap_or_default().trim_end_matches('/').to_owned(),
    };
    (Some(if stem.is_empty() { "index".to_owned() } else { stem }), segment)
}

/// `(S(id))` and `(id)` are both `id`.
fn inner(segment: &str) -> String {
    let bare = segment.strip_prefix('(').and_then(|s| s.strip_suffix(')')).unwrap_or(segment);
    let bare = bare.strip_prefix("S(").and_then(|s| s.strip_suffix(')')).unwrap_or(bare);
    bare.to_owned()
}

fn pairs(text: &str) -> Pairs {
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(n, v)| (decode(n), decode(v)))
        .collect()
}

fn cookies(line: &[u8]) -> Pairs {
    let line = String::from_utf8_lossy(line);
    let parts = line.split(';').filter_map(|part| part.trim().split_once('='));
    parts.map(|(n, v)| (n.trim().to_owned(), v.trim().trim_matches('"').to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(uri: &str) -> Ask {
        let request =
            Request::builder().uri(uri).header("cookie", "a=1; B=\"2\"").body(Bytes::new()).unwrap();
        Ask::new(&request, "/AppA/", IpAddr::from([127, 0, 0, 1]))
    }

    #[test]
    fn pages() {
        for (uri, stem) in [
            ("/AppA/", Some("index")),
            ("/AppA", Some("index")),
            ("/AppA/Index.CFM", Some("index")),
            ("/AppA/ping.jsp;jsessionid=7?x", Some("ping")),
            ("/AppA/static.css", Some("static.css")),
            ("/AppA/(S(abc))/set.aspx?k=v", Some("set")),
            ("/AppB/", None),
        ] {
            assert_eq!(ask(uri).page.as_deref(), stem, "{uri}");
        }
    }

    #[test]
    fn parts() {
        let ask = ask("/AppA/x.jsp;jsessionid=7.n1?CFID=1&a=b%20c+d&json");
        assert_eq!(ask.path_param("JSESSIONID"), Some("7.n1"));
        assert_eq!(ask.query_any_case("cfid"), Some("1"));
        assert_eq!(ask.query("cfid"), None);
        assert_eq!(ask.query("a"), Some("b c d"));
        assert!(ask.json);
        assert_eq!(
            (ask.cookie("a"), ask.cookie("b"), ask.cookie_any_case("b")),
            (Some("1"), None, Some("2"))
        );
    }

    #[test]
    fn cookieless_segments() {
        assert_eq!(ask("/AppA/(S(abc))/set.aspx").segment.as_deref(), Some("abc"));
        assert_eq!(ask("/AppA/(ABC)/set.aspx").segment.as_deref(), Some("ABC"));
        assert_eq!(ask("/AppA/set.aspx").segment, None);
    }
}
