//! The mode `release`: each browser is handed its app cookies back, so that the proxy can be taken out and nobody is signed
//! out.
//!
//! It takes two steps, since an answer may be lost on its way. Every answer carries what the vaults hold for its host, and
//! the vaults go on serving the person and her heartbeats. Once the browser shows what it was handed, it is the browser's:
//! the app session goes out of the bridge session, without a sign-out.
//!
//! Invariants: nothing is let go before the browser has shown it; a cookie goes back only to the host where the person used
//! the app; until then the vault decides, and afterwards the browser does, never both.

use http::HeaderValue;

use super::app_session::AppSession;
use super::rules::{AppIx, AppRules, Disposition, SameSite};
use super::session::{End, Phase, Session};
use super::to_client::host_of;
use super::vault::{Carrier, Cookie, Role, Vault};
use crate::time::Timestamp;
use crate::wire::{cookie, jar, set_cookie};

mod as_said;
mod renamed;

pub use as_said::as_said;
pub use renamed::{HandedBack, renamed};

/// What a session remembers while its cookies are handed back. Forgotten where the session is put to sleep: then they are
/// handed back once more.
#[derive(Clone, Debug, Default)]
pub struct Handing(Option<Box<Handed>>);

#[derive(Clone, Debug, Default)]
struct Handed {
    /// What answers have carried: whose, as of when it began and how often it had changed, and since when.
    given: Vec<(AppIx, (Timestamp, u32), Timestamp)>,
    /// Apps whose cookies are the browser's own again.
    out: Vec<AppIx>,
}

impl Handing {
    /// An answer carries all of `app` as it is now.
    fn gives(&mut self, app: &AppSession, now: Timestamp) {
        let handed = self.0.get_or_insert_default();
        let state = state(app);
        if !handed.given.iter().any(|(of, given, _)| *of == app.app && *given == state) {
            handed.given.retain(|(of, ..)| *of != app.app);
            handed.given.push((app.app, state, now));
        }
    }

    /// Since when answers have carried `app` as it is now.
    fn since(&self, app: &AppSession) -> Option<Timestamp> {
        let given = self.0.as_ref().and_then(|handed| {
            handed.given.iter().find(|(of, given, _)| *of == app.app && *given == state(app))
        });
        given.map(|(.., since)| *since)
    }

    fn is_out(&self, app: AppIx) -> bool {
        self.0.as_ref().is_some_and(|handed| handed.out.contains(&app))
    }
}

fn state(app: &AppSession) -> (Timestamp, u32) {
    (app.created, app.revision())
}

/// A request as far as handing back goes.
#[derive(Clone, Copy, Debug)]
pub struct Asks<'a> {
    /// The public host, without port.
    pub host: &'a str,
    /// The public path.
    pub path: &'a str,
    /// True where the browser came by `https`.
    pub https: bool,
    /// The Cookie field.
    pub cookies: &'a [u8],
    /// Now.
    pub now: Timestamp,
}

/// The cookies of `app` that its browser lacks: tokens that are vaulted, and all else that the vault holds.
fn lacking<'v>(rules: &AppRules, vault: &'v Vault) -> impl Iterator<Item = Cookie<'v>> {
    vault.iter().filter(move |cookie| place(rules, cookie) == Disposition::Vault)
}

/// Where `cookie` of a vault is kept: a token may be the browser's as well.
fn place(rules: &AppRules, cookie: &Cookie<'_>) -> Disposition {
    let session = rules.session.as_ref().filter(|_| cookie.role != Role::Plain);
    session.map_or(Disposition::Vault, |session| session.token_disposition(cookie.name))
}

/// True where nothing of `app` is kept from the browser: its tokens are there, as the app named them.
fn browser_has_all(rules: &AppRules, app: &AppSession) -> bool {
    app.vault().iter().all(|cookie| matches!(place(rules, &cookie), Disposition::Pass | Disposition::AsIs))
}

/// False for an app session whose token rides in the path: no cookie can stand for it, so it stays bridged.
fn may_go(app: &AppSession) -> bool {
    app.vault().iter().all(|cookie| cookie.carrier == Carrier::Cookie)
}

/// True where answers on `host` may hand back the cookies of `app`: where the person used it, and as safely.
fn is_at(app: &AppSession, asks: &Asks<'_>) -> bool {
    app.public.as_ref().is_none_or(|public| {
        host_of(&public.authority).eq_ignore_ascii_case(asks.host) && (asks.https || !public.https)
    })
}

/// True where the browser shows what `app` has for this request: then it has the rest as well, which came with it.
fn shows(rules: &AppRules, app: &AppSession, asks: &Asks<'_>) -> bool {
    let (mut lacks, mut due) = (false, false);
    for cookie in lacking(rules, app.vault()) {
        lacks = true;
        let comes = (cookie.expires == 0 || cookie.expires > asks.now.secs())
            && (asks.https || !cookie.secure)
            && paths(rules, &cookie).any(|path| jar::path_match(&path, asks.path.as_bytes()));
        if !comes {
            continue;
        }
        due = true;
        // Where there are two of a name, the first one is nearer to the app: servers take that.
        let shown = cookie::pairs(asks.cookies).find(|pair| pair.name == cookie.name);
        if shown.is_none_or(|pair| pair.value != cookie.value) {
            return false;
        }
    }
    due || !lacks
}

/// Where browsers keep a cookie: at the path that the app said, which is where it belongs without the proxy; and where the
/// app does not see its own mount, also at the public one, or it would not come back here.
fn paths<'c>(rules: &AppRules, cookie: &Cookie<'c>) -> impl Iterator<Item = std::borrow::Cow<'c, [u8]>> {
    let public = std::str::from_utf8(cookie.path).ok().filter(|_| rules.mount.strips()).map(|path| {
        let public = rules.mount.to_public(path);
        public.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(&public).as_bytes().to_vec()
    });
    let public = public.filter(|public| public != cookie.path);
    std::iter::once(cookie.path.into()).chain(public.map(Into::into))
}

/// Lets go what the browser has shown to hold itself. Gives the vault of the app that is asked, where that has gone; whether
/// anything of the session is left, [`Session::apps`] tells.
///
/// Cookies of other apps that answers have carried for as long as those which are shown have arrived as well.
pub fn let_go<'r>(
    session: &mut Session,
    asked: &AppRules,
    rules_of: impl Fn(AppIx) -> Option<&'r AppRules>,
    asks: &Asks<'_>,
) -> Option<Vault> {
    let app = session.app(asked.app)?;
    if !may_go(app) || !is_at(app, asks) || !shows(asked, app, asks) {
        return None;
    }
    let vault = app.vault().clone();
    let since = session.handing.since(app);
    let came_along = |app: &AppSession| {
        since.zip(session.handing.since(app)).is_some_and(|(shown, own)| own <= shown)
            || rules_of(app.app).is_some_and(|rules| browser_has_all(rules, app))
    };
    let arrived = |app: &AppSession| {
        app.app == asked.app || app.lent || may_go(app) && is_at(app, asks) && came_along(app)
    };
    // Those that share a session share its token: all of them go, or none.
    let together = |app: AppIx| {
        let shares = rules_of(app).and_then(|rules| rules.session.as_ref()).map(|rules| &rules.shares);
        shares.into_iter().flatten().all(|share| session.app(share.with).is_none_or(&arrived))
    };
    if !together(asked.app) {
        return None;
    }
    let mut out: Vec<AppIx> =
        session.apps().filter(|app| arrived(app) && together(app.app)).map(|app| app.app).collect();
    let lent = out.iter().filter_map(|app| rules_of(*app)?.session.as_ref()).flat_map(|rules| &rules.shares);
    let lent: Vec<AppIx> = lent.map(|share| share.with).collect();
    out.extend(lent);
    for app in out {
        if session.take_app(app).is_some() {
            session.handing.0.get_or_insert_default().out.push(app);
        }
    }
    Some(vault)
}

/// True where the answer to a request that was sent for `app` (`began`: for its session of then) is the browser's alone: it
/// is passed on as the app said it.
#[must_use]
pub fn is_out(session: &Session, app: AppIx, began: Option<Timestamp>) -> bool {
    match session.phase() {
        Phase::Ended(end) => end == End::Released,
        Phase::Pending | Phase::Bound => {
            session.app(app).is_none() && (began.is_none() || session.handing.is_out(app))
        }
    }
}

/// The Set-Cookie fields that hand back what `session` holds for the host that `asks`; the app that is `asked` last, so that
/// it stays where two apps have a cookie in common.
pub fn hand_back<'r>(
    session: &mut Session,
    asked: AppIx,
    rules_of: impl Fn(AppIx) -> Option<&'r AppRules>,
    asks: &Asks<'_>,
) -> Vec<HeaderValue> {
    let mut apps: Vec<AppIx> =
        session.apps().filter(|app| may_go(app) && is_at(app, asks)).map(|app| app.app).collect();
    apps.sort_by_key(|app| *app == asked);
    let mut fields = Vec::new();
    for app in apps {
        let (Some(rules), Some(held)) = (rules_of(app), session.app(app)) else { continue };
        let before = fields.len();
        for cookie in held.vault().iter() {
            match place(rules, &cookie) {
                // The browser has it as it is.
                Disposition::Pass | Disposition::AsIs => continue,
                Disposition::Prefix => fields.extend(renamed::deletions(rules, &cookie, asks)),
                Disposition::Vault | Disposition::Drop => {}
            }
            fields.extend(paths(rules, &cookie).filter_map(|path| field(cookie.name, &path, &cookie, asks)));
        }
        if fields.len() > before {
            let mut handing = std::mem::take(&mut session.handing);
            session.app(app).into_iter().for_each(|app| handing.gives(app, asks.now));
            session.handing = handing;
        }
    }
    fields
}

/// The field that sets `cookie` as its app did, as far as that is known: a token lives as long as the browser is open, and
/// one that is only for TLS is not refused where there is none.
fn field(name: &[u8], path: &[u8], cookie: &Cookie<'_>, asks: &Asks<'_>) -> Option<HeaderValue> {
    let mut out = Vec::with_capacity(name.len() + cookie.value.len() + 64);
    out.extend_from_slice(name);
    out.push(b'=');
    out.extend_from_slice(cookie.value);
    let parsed = out.clone();
    let bare = set_cookie::SetCookie::parse(&parsed)?;
    let secure = cookie.secure && asks.https;
    let mut edit = set_cookie::Edit::new(&bare).path(Some(path));
    if secure {
        edit = edit.secure(true);
    }
    if cookie.reach.http_only {
        edit = edit.http_only(true);
    }
    let same_site = cookie.reach.same_site.filter(|word| secure || *word != SameSite::None);
    if let Some(word) = same_site {
        edit = edit.same_site(Some(word.as_str().as_bytes()));
    }
    let mut out = edit.finish().into_owned();
    if cookie.subdomains && jar::domain_match(cookie.host, asks.host.as_bytes()) {
        out.extend_from_slice(b"; Domain=");
        out.extend_from_slice(cookie.host);
    }
    if cookie.expires != 0 {
        let left = cookie.expires.saturating_sub(asks.now.secs());
        out.extend_from_slice(format!("; Max-Age={left}").as_bytes());
    }
    let mut field = HeaderValue::from_bytes(&out).ok()?;
    field.set_sensitive(true);
    Some(field)
}

#[cfg(test)]
mod tests;
