//! The vault of one app session: its cookies, packed into one block of bytes.
//!
//! Packed, because a million people have two of these each: a record is a fixed head and three runs of bytes, and the
//! whole block is rewritten when a cookie changes, which is rare beside how often it is read.
//!
//! Invariant: records stand in the order in which they are sent: longest path first, then oldest first (RFC 6265bis
//! 5.8.3), and no two have the same name, path and host.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::packing::{Packer, Unpacker};
use super::rules::SameSite;
use crate::time::Timestamp;

/// What a cookie in the vault is to its app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Part `part` of the token `token`, by their places in the app's rules.
    Token {
        /// Index into the app's tokens.
        token: u8,
        /// Index into that token's parts.
        part: u8,
    },
    /// A session-lifetime `HttpOnly` cookie, or one that an exception puts here.
    Plain,
}

/// Where the value rides on the way to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// In the Cookie field.
    Cookie,
    /// As a path segment `/(S(id))/` behind the mount.
    Wrapped,
    /// As a bare path segment `/(ID)/` behind the mount (Mono).
    Bare,
}

/// One cookie, as a view into the block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cookie<'a> {
    /// In the app's own spelling.
    pub name: &'a [u8],
    /// As the app said it; empty is a value.
    pub value: &'a [u8],
    /// The path, in the app's own URL space.
    pub path: &'a [u8],
    /// The public host that it is for; empty: wherever the app is served. Of a token only the domain that the app named.
    pub host: &'a [u8],
    /// Also for the names below that host: the app said `Domain`.
    pub subdomains: bool,
    /// Seconds since the Unix epoch; 0: as long as the session.
    pub expires: u64,
    /// When the request began whose answer brought this value, in microseconds since the Unix epoch.
    pub started: u64,
    /// What it is to the app.
    pub role: Role,
    /// Where it rides.
    pub carrier: Carrier,
    /// Only for requests that reached the proxy by TLS.
    pub secure: bool,
    /// Who in a browser may use it, as the app said.
    pub reach: Reach,
}

/// What an app said of a cookie that binds only browsers. Kept for the day when the cookie is handed back to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// `HttpOnly`.
    pub http_only: bool,
    /// `SameSite`, where it is a known word.
    pub same_site: Option<SameSite>,
}

impl fmt::Debug for Cookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value is a secret; the name is not.
        write!(f, "Cookie({}, {:?})", String::from_utf8_lossy(self.name), self.role)
    }
}

impl Cookie<'_> {
    /// True where one would take the other's place: the same name, path and host (RFC 6265bis 5.7).
    #[must_use]
    pub fn is_same(&self, other: &Cookie<'_>) -> bool {
        self.name == other.name
            && self.path == other.path
            && self.subdomains == other.subdomains
            && self.host.eq_ignore_ascii_case(other.host)
    }

    /// True where it goes to the public `host` (without port).
    #[must_use]
    pub fn is_for(&self, host: &[u8]) -> bool {
        // A token is for the app, wherever it is served.
        self.host.is_empty()
            || matches!(self.role, Role::Token { .. })
            || self.host.eq_ignore_ascii_case(host)
            || self.subdomains && crate::wire::jar::domain_match(self.host, host)
    }
}

/// All cookies of one app session. Empty costs nothing.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vault(Box<[u8]>);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        crate::secret::erase(&mut self.0);
    }
}

/// Bytes of a record before its name: flags, token, part, four lengths, expiry, start.
const HEAD: usize = 3 + 3 * 2 + 1 + 5 + 8;
const SECURE: u8 = 1;
const PLAIN: u8 = 2;
const WRAPPED: u8 = 4;
const BARE: u8 = 8;
const SUBDOMAINS: u8 = 16;
const HTTP_ONLY: u8 = 32;
/// The two highest bits say `SameSite`.
const SAME_SITE: u32 = 6;

impl Vault {
    /// True where it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its cookies in the order in which they are sent.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// The cookie that is part `part` of token `token`.
    #[must_use]
    pub fn part(&self, token: u8, part: u8) -> Option<Cookie<'_>> {
        self.iter().find(|cookie| cookie.role == Role::Token { token, part })
    }

    /// Bytes held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// How many cookies it holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// Puts `cookie` in; one of the same name, path and host is replaced where it stands (an overwritten cookie keeps its
    /// creation time, RFC 6265bis 5.7). A cookie too long for a record is refused.
    pub fn put(&mut self, cookie: &Cookie<'_>) -> bool {
        let longest = [cookie.name.len(), cookie.value.len(), cookie.path.len()].into_iter().max();
        if longest.is_none_or(|length| length > usize::from(u16::MAX))
            || cookie.host.len() > usize::from(u8::MAX)
        {
            return false;
        }
        let mut next = Vec::with_capacity(
            self.0.len() + HEAD + cookie.name.len() + cookie.value.len() + cookie.host.len() + 8,
        );
        let replaces = self.iter().any(|old| old.is_same(cookie));
        let mut placed = false;
        for old in self.iter() {
            if replaces && old.is_same(cookie) {
                write(&mut next, cookie);
                placed = true;
                continue;
            }
            if !replaces && !placed && old.path.len() < cookie.path.len() {
                write(&mut next, cookie);
                placed = true;
            }
            write(&mut next, &old);
        }
        if !placed {
            write(&mut next, cookie);
        }
        self.replace(next);
        true
    }

    /// Keeps the cookies for which `keep` is true, which is asked once of each; tells whether any went.
    pub fn retain(&mut self, mut keep: impl FnMut(&Cookie<'_>) -> bool) -> bool {
        let Some(first) = self.iter().position(|cookie| !keep(&cookie)) else { return false };
        let mut next = Vec::with_capacity(self.0.len());
        self.iter().take(first).for_each(|cookie| write(&mut next, &cookie));
        for cookie in self.iter().skip(first + 1).filter(|cookie| keep(cookie)) {
            write(&mut next, &cookie);
        }
        self.replace(next);
        true
    }

    /// Writes it. What cookies are called and where they go is the same in many vaults.
    pub(super) fn pack(&self, out: &mut Packer<'_>) {
        out.count(self.count());
        let mut form = Vec::with_capacity(HEAD + 64);
        for cookie in self.iter() {
            form.clear();
            write(&mut form, &Cookie { value: b"", expires: 0, started: 0, ..cookie });
            let number = out.common.forms.enter(&form, || Arc::from(&*form));
            out.number(number);
            out.number(cookie.expires);
            out.time(Timestamp::from_micros(cookie.started));
            out.value(cookie.value);
        }
    }

    /// Reads what [`Vault::pack`] wrote.
    pub(super) fn unpack(from: &mut Unpacker<'_>) -> Self {
        let mut cookies: SmallVec<[_; 4]> = SmallVec::new();
        for _ in 0..from.count() {
            cookies.push((from.narrow::<u32>(), from.number(), from.time().micros(), from.value()));
        }
        let forms = &mut from.common.forms;
        let size =
            cookies.iter().map(|(form, _, _, value)| forms.look(*form).map_or(0, <[u8]>::len) + value.len());
        let mut bytes = Vec::with_capacity(size.sum());
        let longest = cookies.iter().map(|(.., value)| value.len()).max();
        let mut value = Vec::with_capacity(longest.unwrap_or_default());
        for (form, expires, started, packed) in &cookies {
            value.clear();
            packed.unpack(&mut value);
            if let Some(cookie) = forms.look(*form).and_then(|form| Iter(form).next()) {
                write(&mut bytes, &Cookie { value: &value, expires: *expires, started: *started, ..cookie });
            }
            if from.last_time {
                forms.leave(*form);
            }
        }
        crate::secret::erase(&mut value);
        Self(bytes.into_boxed_slice())
    }

    fn replace(&mut self, next: Vec<u8>) {
        crate::secret::erase(&mut self.0);
        self.0 = next.into_boxed_slice();
    }
}

/// The cookies of a [`Vault`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = Cookie<'a>;

    fn next(&mut self) -> Option<Cookie<'a>> {
        let (head, rest) = self.0.split_first_chunk::<HEAD>()?;
        let [flags, token, part, n0, n1, v0, v1, p0, p1, h, e0, e1, e2, e3, e4, started @ ..] = *head;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([n0, n1])))?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([v0, v1])))?;
        let (path, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([p0, p1])))?;
        let (host, rest) = rest.split_at_checked(usize::from(h))?;
        self.0 = rest;
        Some(Cookie {
            name,
            value,
            path,
            host,
            subdomains: flags & SUBDOMAINS != 0,
            expires: u64::from_le_bytes([e0, e1, e2, e3, e4, 0, 0, 0]),
            started: u64::from_le_bytes(started),
            role: if flags & PLAIN != 0 { Role::Plain } else { Role::Token { token, part } },
            carrier: match flags & (WRAPPED | BARE) {
                WRAPPED => Carrier::Wrapped,
                BARE => Carrier::Bare,
                _ => Carrier::Cookie,
            },
            secure: flags & SECURE != 0,
            reach: Reach::of(flags),
        })
    }
}

impl Reach {
    const fn flags(self) -> u8 {
        let same_site = match self.same_site {
            None => 0,
            Some(SameSite::Strict) => 1,
            Some(SameSite::Lax) => 2,
            Some(SameSite::None) => 3,
        };
        same_site << SAME_SITE | if self.http_only { HTTP_ONLY } else { 0 }
    }

    const fn of(flags: u8) -> Self {
        let same_site = match flags >> SAME_SITE {
            1 => Some(SameSite::Strict),
            2 => Some(SameSite::Lax),
            3 => Some(SameSite::None),
            _ => None,
        };
        Self { http_only: flags & HTTP_ONLY != 0, same_site }
    }
}

/// Appends the record of `cookie`, whose lengths [`Vault::put`] has checked.
fn write(out: &mut Vec<u8>, cookie: &Cookie<'_>) {
    let (plain, token, part) = match cookie.role {
        Role::Token { token, part } => (0, token, part),
        Role::Plain => (PLAIN, 0, 0),
    };
    let carrier = match cookie.carrier {
        Carrier::Cookie => 0,
        Carrier::Wrapped => WRAPPED,
        Carrier::Bare => BARE,
    };
    let secure = if cookie.secure { SECURE } else { 0 };
    let subdomains = if cookie.subdomains { SUBDOMAINS } else { 0 };
    let flags = plain | carrier | secure | subdomains | cookie.reach.flags();
    out.extend_from_slice(&[flags, token, part]);
    for run in [cookie.name, cookie.value, cookie.path] {
        out.extend_from_slice(&u16::try_from(run.len()).unwrap_or(u16::MAX).to_le_bytes());
    }
    out.push(u8::try_from(cookie.host.len()).unwrap_or(u8::MAX));
    // Forty bits of seconds reach the year 36812.
    let [e0, e1, e2, e3, e4, ..] = cookie.expires.to_le_bytes();
    out.extend_from_slice(&[e0, e1, e2, e3, e4]);
    out.extend_from_slice(&cookie.started.to_le_bytes());
    for run in [cookie.name, cookie.value, cookie.path, cookie.host] {
        out.extend_from_slice(run);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cookie<'a>(name: &'a str, value: &'a str, path: &'a str) -> Cookie<'a> {
        Cookie {
            name: name.as_bytes(),
            value: value.as_bytes(),
            path: path.as_bytes(),
            host: b"",
            subdomains: false,
            expires: 0,
            started: 7,
            role: Role::Plain,
            carrier: Carrier::Cookie,
            secure: false,
            reach: Reach::default(),
        }
    }

    #[test]
    fn longest_path_first_then_oldest() {
        let mut vault = Vault::default();
        for (name, path) in [("a", "/"), ("b", "/x/y"), ("c", "/"), ("d", "/x")] {
            assert!(vault.put(&cookie(name, "1", path)));
        }
        let names: Vec<_> = vault.iter().map(|cookie| cookie.name.to_vec()).collect();
        assert_eq!(names, [b"b", b"d", b"a", b"c"]);
    }

    #[test]
    fn an_overwritten_cookie_keeps_its_place() {
        let mut vault = Vault::default();
        vault.put(&cookie("a", "1", "/"));
        vault.put(&cookie("b", "1", "/"));
        vault.put(&cookie("a", "2", "/"));
        let all: Vec<_> = vault.iter().map(|cookie| (cookie.name, cookie.value)).collect();
        assert_eq!(all, [(&b"a"[..], &b"2"[..]), (b"b", b"1")]);
    }

    #[test]
    fn a_host_and_its_domain_have_cookies_of_their_own() {
        let mut vault = Vault::default();
        let host = Cookie { host: b"a.example.org", ..cookie("a", "1", "/") };
        let domain = Cookie { host: b"example.org", subdomains: true, value: b"2", ..host };
        let narrow = Cookie { subdomains: false, value: b"3", ..domain };
        for cookie in [host, domain, narrow, Cookie { host: b"A.Example.org", value: b"4", ..host }] {
            assert!(vault.put(&cookie));
        }
        let sent = |to: &[u8]| {
            vault.iter().filter(|cookie| cookie.is_for(to)).map(|cookie| cookie.value[0]).collect::<Vec<_>>()
        };
        assert_eq!(sent(b"a.example.org"), b"42");
        assert_eq!(sent(b"b.EXAMPLE.org"), b"2");
        assert_eq!(sent(b"example.org"), b"23");
        assert_eq!(sent(b"badexample.org"), b"");
    }

    #[test]
    fn a_value_is_never_printed() {
        let mut vault = Vault::default();
        vault.put(&cookie("CFTOKEN", "81726354", "/"));
        assert!(!format!("{vault:?}").contains("8172"));
    }

    #[test]
    fn a_cookie_too_long_for_a_record_is_refused() {
        let long = "x".repeat(70_000);
        assert!(!Vault::default().put(&cookie("a", &long, "/")));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(entries in proptest::collection::vec(
            ("[a-z]{1,3}", "[ -~]{0,40}", "/[a-z]{0,6}", 0u64..1 << 40, any::<u64>(), any::<(bool, u8)>(), 0u8..4, 0u8..2), 0..12)) {
            let mut vault = Vault::default();
            let mut model: Vec<(String, String, String)> = Vec::new();
            for (name, value, path, expires, started, (secure, reach), token, part) in &entries {
                let cookie = Cookie { expires: *expires, started: *started, secure: *secure, reach: Reach::of(*reach),
                    role: Role::Token { token: *token, part: *part }, ..cookie(name, value, path) };
                vault.put(&cookie);
                model.retain(|(n, _, p)| (n, p) != (name, path));
                model.push((name.clone(), value.clone(), path.clone()));
                prop_assert!(vault.iter().any(|kept| kept == cookie));
            }
            prop_assert_eq!(vault.count(), model.len());
            for (name, value, path) in &model {
                prop_assert!(vault.iter().any(|kept| kept.name == name.as_bytes()
                    && kept.value == value.as_bytes() && kept.path == path.as_bytes()));
            }
            let lengths: Vec<_> = vault.iter().map(|cookie| cookie.path.len()).collect();
            prop_assert!(lengths.windows(2).all(|pair| pair[0] >= pair[1]));
        }
    }
}
