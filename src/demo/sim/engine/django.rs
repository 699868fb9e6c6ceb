//! Django: database sessions, a new id at sign-in, CSRF tokens, sign-out by POST only.
//!
//! Invariant: a form without the token of its cookie changes nothing.

use http::{Method, StatusCode};

use super::super::{
    ids::date,
    sessions::End,
    visit::{Engine, Reply, Visit},
};

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const CSRF_ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// A year less a day, `CSRF_COOKIE_AGE`, in seconds.
const CSRF_AGE_S: u64 = 31_449_600;
/// Pages that are `csrf_exempt`.
const EXEMPT: [&str; 2] = ["echo", "builder.xml"];

/// The engine; all its state is the session table.
pub(super) struct Django;

impl Django {
    /// The session that the cookie shows, if it lives, else another.
    fn find(visit: &mut Visit<'_>) {
        visit.sessions.expire(visit.now);
        match visit.ask.cookie("sessionid").filter(|id| visit.sessions.has(id)) {
            Some(id) if visit.options.rolling => visit.resume(id),
            Some(id) => visit.take(id),
            None => {
                let id = visit.ids.text(32, ALPHABET);
                visit.start(&id);
            }
        }
    }

    fn set_csrf(visit: &mut Visit<'_>, token: &str) {
        let expires = date(visit.now + CSRF_AGE_S * 1000, ' ');
        visit.set_cookies.retain(|line| !line.starts_with("csrftoken="));
        let attributes = format!("expires={expires}; Max-Age={CSRF_AGE_S}; Path=/; SameSite=Lax");
        visit.set_cookie(format!("csrftoken={token}; {attributes}"));
        visit.csrf = Some(token.to_owned());
    }

    /// Why a form is refused: another site's Origin (which is what a changed Host looks like), or no token.
    fn refusal(visit: &Visit<'_>) -> Option<&'static str> {
        let ask = visit.ask;
        let origin = ask.header("origin");
        let from = origin.split_once("://").map_or(origin, |(_, host)| host);
        if !origin.is_empty() && from != ask.header("host") {
            return Some("Origin checking failed");
        }
        let Some(cookie) = ask.cookie("csrftoken") else { return Some("CSRF cookie not set") };
        let sent = ask.form("csrfmiddlewaretoken").unwrap_or_else(|| ask.header("x-csrftoken"));
        (sent != cookie).then_some("CSRF token missing or incorrect")
    }
}

impl Engine for Django {
    fn admit(&mut self, visit: &mut Visit<'_>) -> Option<Reply> {
        let page = visit.ask.page.as_deref().unwrap_or_default();
        if page == "logout" && visit.ask.method != Method::POST {
            let mut reply = Reply::html(StatusCode::METHOD_NOT_ALLOWED, String::new());
            reply.headers.push(("allow", "POST, OPTIONS".to_owned()));
            return Some(reply);
        }
        if visit.ask.method != Method::POST || EXEMPT.contains(&page) {
            return None;
        }
        let why = Self::refusal(visit)?;
        Some(Reply::html(
            StatusCode::FORBIDDEN,
            format!("<h1>Forbidden (403)</h1><p>CSRF verification failed. {why}"),
        ))
    }

    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>> {
        Self::find(visit);
        if matches!(visit.ask.page.as_deref(), Some("index" | "login")) {
            let token = match visit.ask.cookie("csrftoken") {
                Some(token) => token.to_owned(),
                None => visit.ids.text(32, CSRF_ALPHABET),
            };
            Self::set_csrf(visit, &token);
        }
        Ok(())
    }

    /// With `SAVE_EVERY_REQUEST` the middleware saves after every page, under another id where the one shown is dead (seen on
    /// Django 5.2).
    fn pass_by(&mut self, visit: &mut Visit<'_>) {
        if visit.options.rolling && !visit.is_file() && visit.ask.cookie("sessionid").is_some() {
            Self::find(visit);
            self.finish(visit);
        }
    }

    /// `cycle_key`.
    fn rotate(&mut self, visit: &mut Visit<'_>) -> bool {
        let id = visit.ids.text(32, ALPHABET);
        visit.rename(&id);
        visit.changed = true;
        true
    }

    /// `flush`: the cookie is deleted with the session.
    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End) {
        visit.end(why);
        let deleted =
            "sessionid=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax";
        visit.set_cookie(deleted.to_owned());
    }

    /// `login`: another session id and another CSRF token.
    fn sign_in(&mut self, visit: &mut Visit<'_>, user: &str) {
        visit.user = Some(user.to_owned());
        visit.changed = true;
        if let Some(session) = visit.session_mut() {
            session.user = Some(user.to_owned());
        }
        if visit.options.rotate_on_login {
            self.rotate(visit);
            let token = visit.ids.text(32, CSRF_ALPHABET);
            Self::set_csrf(visit, &token);
        }
    }

    /// The cookie goes out when the session was saved: it is new, was changed, or `SAVE_EVERY_REQUEST` is on.
    fn finish(&mut self, visit: &mut Visit<'_>) {
        let Some(id) = visit.key.clone().filter(|_| visit.fresh || visit.changed || visit.options.rolling)
        else {
            return;
        };
        visit.expire_in(&id, visit.options.timeout_ms);
        let expires = date(visit.now + visit.options.timeout_ms, ' ');
        let age = visit.options.timeout_ms / 1000;
        let attributes = format!("expires={expires}; HttpOnly; Max-Age={age}; Path=/; SameSite=Lax");
        visit.set_cookie(format!("sessionid={id}; {attributes}"));
    }
}
