//! ASP.NET on the Framework, with cookies or with the id in the path, and on Mono; forms authentication
//! beside it.
//!
//! Invariant: session and sign-in are two things: the forms ticket lives in its cookie alone.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use serde::{Deserialize, Serialize};

use super::super::{
    Profile, SimOptions,
    ask::Ask,
    ids,
    sessions::End,
    visit::{Engine, Reply, Visit},
};

const NAME: &str = "ASP.NET_SessionId";

/// One application.
pub(super) struct AspNet {
    mono: bool,
    cookieless: bool,
    secret: String,
    /// Sealed tickets differ although their content is the same.
    serial: u64,
    /// `; path=..` and what follows it.
    attributes: String,
}

/// The content of a forms ticket; times in unix milliseconds.
#[derive(Serialize, Deserialize)]
struct Ticket {
    user: String,
    issued: u64,
    expires: u64,
    serial: u64,
}

impl AspNet {
    pub(super) fn new(options: &SimOptions) -> Self {
        let mono = options.profile == Profile::AspNetMono;
        let mono_path = format!("; path={}", options.context_path());
        Self {
            mono,
            cookieless: options.cookieless,
            secret: format!("machine key of {} {}", options.name, options.seed),
            serial: 0,
            attributes: if mono { mono_path } else { "; path=/; HttpOnly; SameSite=Lax".to_owned() },
        }
    }

    fn issue(&self, visit: &mut Visit<'_>) -> String {
        if self.mono {
            visit.ids.upper_hex(24)
        } else {
            visit.ids.text(24, "abcdefghijklmnopqrstuvwxyz012345")
        }
    }

    /// The Framework adopts whatever has the right shape; Mono 6.8 wants a session that lives.
    fn takes(&self, visit: &Visit<'_>, id: &str) -> bool {
        let shape = |byte: u8| byte.is_ascii_lowercase() || (b'0'..=b'5').contains(&byte);
        if self.mono { visit.sessions.has(id) } else { id.len() == 24 && id.bytes().all(shape) }
    }

    fn id_of_cookie(&self, visit: &mut Visit<'_>) -> String {
        let shown = visit.ask.cookie(NAME).filter(|id| self.takes(visit, id)).map(ToOwned::to_owned);
        shown.unwrap_or_else(|| {
            let id = self.issue(visit);
            visit.set_cookie(format!("{NAME}={id}{}", self.attributes));
            id
        })
    }

    fn ticket_name(&self) -> &'static str {
        if self.mono { ".MONOAUTH" } else { ".ASPXAUTH" }
    }

    fn seal(&mut self, visit: &mut Visit<'_>, user: &str) {
        self.serial += 1;
        let expires = visit.now + visit.options.timeout_ms;
        let ticket = Ticket { user: user.to_owned(), issued: visit.now, expires, serial: self.serial };
        let text = serde_json::to_string(&ticket).unwrap_or_default();
        let mac = ids::sign(&self.secret, &text);
        let bytes = [text.as_bytes(), mac.as_slice()].concat();
        let sealed =
            if self.mono { BASE64_STANDARD.encode(bytes) } else { ids::hex(&bytes).to_ascii_uppercase() };
        visit.set_cookie(format!("{}={sealed}{}", self.ticket_name(), self.attributes));
    }

    fn unseal(&self, sealed: &str, now: u64) -> Option<Ticket> {
        let bytes = if self.mono { BASE64_STANDARD.decode(sealed).ok()? } else { ids::unhex(sealed)? };
        let (text, mac) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        let text = std::str::from_utf8(text).ok()?;
        let ticket: Ticket = serde_json::from_str(text).ok()?;
        (ids::sign(&self.secret, text) == mac && ticket.expires > now).then_some(ticket)
    }

    /// Sliding expiration: a new ticket in the second half of the old one's life, not before.
    fn slide(&mut self, visit: &mut Visit<'_>) {
        let sealed = visit.ask.cookie(self.ticket_name());
        let ticket = sealed.and_then(|sealed| self.unseal(sealed, visit.now));
        visit.user = ticket.as_ref().map(|ticket| ticket.user.clone());
        if let Some(ticket) = ticket.filter(|t| visit.now - t.issued >= (t.expires - t.issued) / 2) {
            self.seal(visit, &ticket.user);
        }
    }

    /// Mono drops dead sessions erratically: some were gone after four times their timeout, 31 of 31 in another run lived
    /// to ten times. Four it is here, and how late follows from the id.
    fn lateness(&self, id: &str, timeout_ms: u64) -> u64 {
        let quarter = id.bytes().map(u64::from).sum::<u64>() % 4;
        if self.mono { timeout_ms * quarter } else { 0 }
    }

    /// The id is in the path or the client is sent there; an expired one is not taken up again
    /// (`regenerateExpiredSessionId`). The session begins with the redirect, or its own id would be unknown.
    fn id_of_path(&self, visit: &mut Visit<'_>) -> Result<String, Box<Reply>> {
        if let Some(id) = visit.ask.segment.clone().filter(|id| visit.sessions.has(id)) {
            return Ok(id);
        }
        let id = self.issue(visit);
        visit.start(&id);
        let below = visit.ask.path.strip_prefix(&visit.options.mount).unwrap_or_default();
        let page = below.split_once(")/").map_or(below, |(_, page)| page);
        let query = visit
            .ask
            .path_and_query
            .split_once('?')
            .map_or_else(String::new, |(_, query)| format!("?{query}"));
        // Mono leaves the dead id where it was, and answers 404 to the two of them.
        let dead = visit.ask.segment.as_deref().filter(|_| self.mono);
        let segment = dead.map_or_else(String::new, |dead| format!("({dead})/"));
        let root = self.root(&format!("{}{segment}", visit.options.mount), &id);
        Err(Box::new(Reply::redirect(format!("{root}{page}{query}"))))
    }

    fn root(&self, mount: &str, id: &str) -> String {
        if self.mono { format!("{mount}({id})/") } else { format!("{mount}(S({id}))/") }
    }
}

impl Engine for AspNet {
    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>> {
        visit.sessions.expire(visit.now);
        let id = if self.cookieless { self.id_of_path(visit)? } else { self.id_of_cookie(visit) };
        if visit.sessions.has(&id) {
            visit.resume(&id);
        } else {
            visit.start(&id);
        }
        visit.expire_in(&id, visit.options.timeout_ms + self.lateness(&id, visit.options.timeout_ms));
        self.slide(visit);
        visit.token = vec![(NAME, id)];
        Ok(())
    }

    /// There is no such call.
    fn rotate(&mut self, _visit: &mut Visit<'_>) -> bool {
        false
    }

    /// `Session.Abandon`: the cookie stays; when it comes again the Framework adopts the id, Mono issues another.
    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End) {
        let user = visit.user.clone();
        visit.end(why);
        visit.user = user;
    }

    fn sign_in(&mut self, visit: &mut Visit<'_>, user: &str) {
        visit.user = Some(user.to_owned());
        self.seal(visit, user);
    }

    /// `FormsAuthentication.SignOut` and `Session.Abandon`.
    fn sign_out(&mut self, visit: &mut Visit<'_>) {
        visit.end(End::Logout);
        let name = self.ticket_name();
        visit.set_cookies.retain(|line| !line.starts_with(name));
        visit.set_cookie(if self.mono {
            format!("{name}={}; expires=Tue, 12 Oct 1999 00:00:00 GMT", self.attributes)
        } else {
            format!("{name}=; expires=Tue, 12-Oct-1999 05:00:00 GMT{}", self.attributes)
        });
    }

    fn link(&self, visit: &Visit<'_>, page: &str) -> String {
        match visit.token.first().filter(|_| self.cookieless) {
            Some((_, id)) => {
                format!("{}{page}{}", self.root(&visit.options.mount, id), visit.options.profile.extension())
            }
            None => visit.page_url(page),
        }
    }

    fn lock(&self, ask: &Ask) -> Option<String> {
        if self.cookieless && ask.method != Method::OPTIONS {
            return ask.segment.clone();
        }
        ask.cookie(NAME).map(ToOwned::to_owned)
    }
}
