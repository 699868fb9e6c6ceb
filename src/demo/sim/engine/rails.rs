//! Rails with its cookie store: the session IS the cookie, and every answer writes it anew.
//!
//! Invariant: what a request finds is what its cookie says, however old; the table only counts.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::{
    SimOptions, ids,
    sessions::{End, Session},
    visit::{Engine, Reply, Visit},
};

const NAME: &str = "_app_session";
const ENCODED: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// One application with its secret.
pub(super) struct Rails {
    secret: String,
    /// No two cookies are equal, as with the random vectors of the real one.
    serial: u64,
}

impl Rails {
    pub(super) fn new(options: &SimOptions) -> Self {
        Self { secret: format!("secret_key_base of {} {}", options.name, options.seed), serial: 0 }
    }

    fn seal(&mut self, session: &Session) -> String {
        self.serial += 1;
        let text = serde_json::to_string(&(self.serial, session)).unwrap_or_default();
        let data = STANDARD_NO_PAD.encode(text);
        let mac = ids::hex(&ids::sign(&self.secret, &data));
        utf8_percent_encode(&format!("{data}--{mac}"), ENCODED).to_string()
    }

    fn unseal(&self, cookie: &str) -> Option<Session> {
        let plain = percent_decode_str(cookie).decode_utf8().ok()?;
        let (data, mac) = plain.rsplit_once("--")?;
        let good = ids::hex(&ids::sign(&self.secret, data)) == mac;
        let text = STANDARD_NO_PAD.decode(data).ok().filter(|_| good)?;
        serde_json::from_slice::<(u64, Session)>(&text).ok().map(|(_, session)| session)
    }
}

impl Engine for Rails {
    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>> {
        visit.sessions.expire(visit.now);
        let shown = visit.ask.cookie(NAME).and_then(|cookie| self.unseal(cookie));
        match shown.filter(|session| session.expires > visit.now) {
            Some(session) => {
                let key = session.label.clone();
                visit.sessions.restore(&key, session);
                visit.resume(&key);
            }
            None => {
                // The table's key is the label, which `start` is about to count up to.
                let key = format!("s{}", visit.sessions.labels() + 1);
                visit.start(&key);
            }
        }
        Ok(())
    }

    /// Nothing to rotate: every answer does.
    fn rotate(&mut self, _visit: &mut Visit<'_>) -> bool {
        true
    }

    /// `reset_session`: an empty one in its place. The old cookie is as good as ever for who kept it.
    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End) {
        visit.end(why);
        let key = format!("s{}", visit.sessions.labels() + 1);
        visit.start(&key);
    }

    fn finish(&mut self, visit: &mut Visit<'_>) {
        let Some(session) = visit.session().cloned() else { return };
        let sealed = self.seal(&session);
        visit.set_cookie(format!("{NAME}={sealed}; path=/; HttpOnly; SameSite=Lax"));
    }

    fn key_of(&self, token: &str) -> Option<String> {
        self.unseal(token).map(|session| session.label)
    }
}
