//! express-session with a store in memory: `connect.sid` is an id and its signature.
//!
//! The middleware stands in front of every page: one that never looks at the session renews it too (seen on express-session
//! 1.19).
//!
//! Invariant: an id without the application's signature, or one that the store does not know, is never taken.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::{
    SimOptions, ids,
    sessions::End,
    visit::{Engine, Reply, Visit},
};

const NAME: &str = "connect.sid";
const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What `encodeURIComponent` leaves alone, of the characters that occur here.
const ENCODED: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// One application with its secret.
pub(super) struct Express {
    secret: String,
    /// Whether this answer must set the cookie.
    due: bool,
}

impl Express {
    pub(super) fn new(options: &SimOptions) -> Self {
        Self { secret: format!("secret of {} {}", options.name, options.seed), due: false }
    }

    /// The session that the cookie shows, if it lives; also whether this answer sets the cookie anew.
    fn known(&mut self, visit: &mut Visit<'_>) -> Option<String> {
        visit.sessions.expire(visit.now);
        self.due = visit.options.rolling;
        let shown = visit.ask.cookie(NAME).and_then(|cookie| self.key_of(cookie));
        shown.filter(|id| visit.sessions.has(id))
    }

    fn signature(&self, id: &str) -> String {
        STANDARD_NO_PAD.encode(ids::sign(&self.secret, id))
    }
}

impl Engine for Express {
    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>> {
        match self.known(visit) {
            Some(id) => visit.resume(&id),
            None => {
                let id = visit.ids.text(32, ALPHABET);
                visit.start(&id);
                self.due = true;
            }
        }
        Ok(())
    }

    /// A session that is empty and new is not saved (`saveUninitialized: false`), so its id is not told.
    fn pass_by(&mut self, visit: &mut Visit<'_>) {
        if let Some(id) = self.known(visit).filter(|_| !visit.is_file()) {
            visit.resume(&id);
            self.finish(visit);
        }
    }

    /// `req.session.regenerate`, with what was in it put back.
    fn rotate(&mut self, visit: &mut Visit<'_>) -> bool {
        let id = visit.ids.text(32, ALPHABET);
        visit.rename(&id);
        self.due = true;
        true
    }

    /// `req.session.destroy`: no cookie in the answer; the next request gets another id.
    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End) {
        visit.end(why);
    }

    /// The cookie with the expiry of now: on every answer with `rolling`, else with a new id only.
    fn finish(&mut self, visit: &mut Visit<'_>) {
        let Some(id) = visit.key.clone().filter(|_| self.due) else { return };
        let value = format!("s:{id}.{}", self.signature(&id));
        let value = utf8_percent_encode(&value, ENCODED);
        let expires = ids::date(visit.now + visit.options.timeout_ms, ' ');
        visit.set_cookie(format!("{NAME}={value}; Path=/; Expires={expires}; HttpOnly"));
    }

    fn key_of(&self, token: &str) -> Option<String> {
        let plain = percent_decode_str(token).decode_utf8().ok()?;
        let (id, signature) = plain.strip_prefix("s:")?.rsplit_once('.')?;
        (self.signature(id) == signature).then(|| id.to_owned())
    }
}
