//! Which cookie or parameter is whose: names, compared as apps compare them.

use super::rules::{AppRules, CookieMode, Disposition, PartRule, SessionRules};
use super::vault::Role;
use crate::wire::cookie::folds_to;

/// A part of a token, found by one of its names.
#[derive(Clone, Copy, Debug)]
pub struct Managed<'a> {
    /// Which part of which token.
    pub role: Role,
    /// How many parts the token has.
    pub parts: u8,
    /// True where its value changes with use.
    pub rolling: bool,
    /// Its rule.
    pub rule: &'a PartRule,
}

impl SessionRules {
    /// Every part of every token.
    pub fn parts(&self) -> impl Iterator<Item = Managed<'_>> {
        self.tokens.iter().zip(0u8..).flat_map(|(token, at)| {
            let parts = u8::try_from(token.parts.len()).unwrap_or(u8::MAX);
            token.parts.iter().zip(0u8..).map(move |(rule, part)| Managed {
                role: Role::Token { token: at, part },
                parts,
                rolling: token.rolling,
                rule,
            })
        })
    }

    /// The part that the cookie `name` carries, compared after the folding of lenient servers, so that no spelling of a
    /// managed name slips past.
    #[must_use]
    pub fn cookie(&self, name: &[u8]) -> Option<Managed<'_>> {
        self.parts().find(|part| part.rule.cookie.as_ref().is_some_and(|own| folds_to(name, own.as_bytes())))
    }

    /// The exception for the cookie `name`, if there is one.
    #[must_use]
    pub fn exception(&self, name: &[u8]) -> Option<Disposition> {
        if self.exceptions.is_empty() {
            return None;
        }
        let name = String::from_utf8_lossy(name);
        self.exceptions.iter().find(|(glob, _)| glob.matches(&name)).map(|&(_, disposition)| disposition)
    }

    /// What is done with the token cookie `name`.
    #[must_use]
    pub fn token_disposition(&self, name: &[u8]) -> Disposition {
        self.exception(name).unwrap_or(match self.cookies {
            CookieMode::Vault => Disposition::Vault,
            CookieMode::Prefix => Disposition::Prefix,
            CookieMode::Pass => Disposition::Pass,
        })
    }

    /// What is done with a cookie that is no token. In vault mode a session-lifetime `HttpOnly` cookie stays in the proxy:
    /// no script of the page can miss it, and it is most likely the app's sign-in.
    #[must_use]
    pub fn plain_disposition(&self, name: &[u8], http_only: bool, for_session: bool) -> Disposition {
        self.exception(name).unwrap_or(if self.cookies == CookieMode::Vault && http_only && for_session {
            Disposition::Vault
        } else {
            Disposition::Pass
        })
    }
}

impl AppRules {
    /// True where the cookie `name` is one of `own` (see [`super::to_app::ToApp::own_cookies`]), so that this app may neither
    /// see nor set it.
    #[must_use]
    pub fn is_reserved(&self, own: &[Box<str>], name: &[u8]) -> bool {
        own.iter().any(|own| match own.strip_suffix('.') {
            Some(app) => {
                *app != *self.name && name.strip_prefix(own.as_bytes()).is_some_and(|rest| !rest.is_empty())
            }
            None => folds_to(name, own.as_bytes()),
        })
    }

    /// `name` as the browser knows it under [`Disposition::Prefix`]: token characters only, and reversible, since an app's
    /// name holds no dot.
    #[must_use]
    pub fn prefixed(&self, name: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.name.len() + 1 + name.len());
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'.');
        out.extend_from_slice(name);
        out
    }

    /// True where a cookie of this disposition goes to the browser under the app's own prefix: where that was asked for, and
    /// where paths cannot keep it from other apps' cookies. In mode `pass` nothing is renamed.
    #[must_use]
    pub fn renames(&self, disposition: Disposition) -> bool {
        let passes_all = self.session.as_ref().is_some_and(|session| session.cookies == CookieMode::Pass);
        match disposition {
            Disposition::Prefix => true,
            Disposition::Pass => self.mount.is_case_insensitive() && !passes_all,
            Disposition::Vault | Disposition::AsIs | Disposition::Drop => false,
        }
    }

    /// The app's own name of the cookie that the browser knows as `as_sent`, where it was the proxy that renamed it.
    #[must_use]
    pub fn own_name<'a>(&self, as_sent: &'a [u8]) -> Option<&'a [u8]> {
        let (name, session) = (self.unprefixed(as_sent)?, self.session.as_ref()?);
        let disposition = match session.cookie(name) {
            Some(_) => session.token_disposition(name),
            None => session.exception(name).unwrap_or(Disposition::Pass),
        };
        (!name.is_empty() && self.renames(disposition)).then_some(name)
    }

    /// The app's own name of a cookie that the browser knows as `name`, if it was renamed for this app.
    #[must_use]
    pub fn unprefixed<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        name.strip_prefix(self.name.as_bytes())?.strip_prefix(b".")
    }
}
