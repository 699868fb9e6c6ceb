//! The janitor: expires token cookies that a browser should not have.
//!
//! They were set before the proxy came, or by a sibling host, or by an app in the wrong spelling; each would otherwise be
//! sent again and again and fight with the vault's own.

use http::HeaderValue;

use super::rules::AppRules;
use crate::wire::set_cookie::{Flags, deletion};

/// Set-Cookie fields in one answer, at most.
const MOST: usize = 36;

/// Deletions of the cookies `names` in every variant of path and domain under which the app of `rules` on `host` can have
/// got them.
#[must_use]
pub fn deletions<'a>(
    rules: &AppRules,
    host: &str,
    https: bool,
    names: impl Iterator<Item = &'a [u8]>,
) -> Vec<HeaderValue> {
    let mount = &rules.mount;
    let mut paths = vec!["/", mount.cookie_path(), mount.prefix()];
    paths.dedup();
    let domains: Vec<Option<&str>> = std::iter::once(None).chain(domains(host).map(Some)).collect();
    let flags = Flags { secure: https, ..Flags::default() };
    // The host's own first, of every name: what finds no room is still there, and found, at the next request.
    let names: Vec<&[u8]> = names.collect();
    let each = domains.iter().flat_map(|domain| names.iter().map(move |name| (*name, *domain)));
    each.flat_map(|(name, domain)| paths.iter().map(move |path| (name, *path, domain)))
        .take(MOST)
        .filter_map(|(name, path, domain)| {
            let field = deletion(name, path.as_bytes(), domain.map(str::as_bytes), flags);
            HeaderValue::from_bytes(&field).ok()
        })
        .collect()
}

/// `host` and the domains above it that have a dot. An address and a name without a dot can have no domain cookies.
fn domains(host: &str) -> impl Iterator<Item = &str> {
    let named = host.contains('.') && host.parse::<std::net::IpAddr>().is_err();
    std::iter::successors(named.then_some(host), |host| host.split_once('.').map(|(_, above)| above))
        .take_while(|domain| domain.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::domains;

    #[test]
    fn domains_up_to_the_last_dot_and_none_for_an_address() {
        let all = |host| domains(host).collect::<Vec<_>>();
        assert_eq!(all("a.apps.example.org"), ["a.apps.example.org", "apps.example.org", "example.org"]);
        assert!(all("127.0.0.1").is_empty());
        assert!(all("localhost").is_empty());
    }
}
