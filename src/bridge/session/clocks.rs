//! The clocks of a session apart from what else is known of it: a few bytes, for what changes with every request.
//!
//! Invariant: clocks only go forward. What was written of a session an hour ago takes nothing back of what it is by now.

use super::Session;
use crate::bridge::app_session::AppSession;
use crate::bridge::packing::{Common, Packer, Unpacker};
use crate::bridge::rules::AppIx;

/// How this version writes them. Of what a later one writes nothing is taken.
const WRITTEN: u8 = 1;

impl Session {
    /// Writes when the person was last here, and what else may have gone on where nothing has changed that
    /// [`Session::stamp`] is made of.
    pub fn pack_clocks(&self, out: &mut Packer<'_>) {
        out.byte(WRITTEN);
        out.near(self.created);
        out.time(self.last_activity);
        out.time(self.presence);
        out.number(self.hits);
        out.count(self.apps.len());
        self.apps.iter().for_each(|app| app.pack_clocks(out));
    }

    /// Takes in what [`Session::pack_clocks`] wrote of this session, once.
    pub fn take_clocks(&mut self, clocks: &[u8]) {
        let mut nothing = Common::default();
        let from = &mut Unpacker::look(clocks, &mut nothing);
        if from.byte() != WRITTEN {
            return;
        }
        from.near(self.created);
        self.last_activity = self.last_activity.max(from.time());
        self.presence = self.presence.max(from.time());
        self.hits = self.hits.max(from.narrow());
        for _ in 0..from.count() {
            let app = AppIx(from.narrow());
            let read = AppSession::unpack_clocks(app, from);
            if let Some(own) = self.app_mut(app) {
                own.take_clocks(&read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::id::Handle;
    use crate::bridge::testing::at;

    fn used() -> Session {
        let mut session = Session::new(Handle(7), at(1));
        for app in [3, 900] {
            session.app_or_new(AppIx(app), at(2));
            session.touch(AppIx(app), true, at(20));
        }
        session
    }

    fn clocks(session: &Session) -> Vec<u8> {
        let (mut bytes, mut nothing) = (Vec::new(), Common::default());
        session.pack_clocks(&mut Packer::new(&mut bytes, &mut nothing));
        bytes
    }

    #[test]
    fn they_bring_an_older_session_up_to_date_and_take_nothing_back() {
        let (mut older, mut session) = (used(), used());
        let before = clocks(&session);
        session.touch(AppIx(900), true, at(3_600));
        session.presence = at(3_601);
        let app = session.app_mut(AppIx(900)).unwrap();
        app.last_request = at(3_602);
        app.beat.at = at(3_700);
        let after = clocks(&session);
        assert!(after.len() < 64, "{}", after.len());
        older.take_clocks(&after);
        assert_eq!(format!("{:?}", older.app(AppIx(900))), format!("{:?}", session.app(AppIx(900))));
        assert_eq!(clocks(&older), after);
        older.take_clocks(&before);
        assert_eq!(clocks(&older), after);
    }

    #[test]
    fn an_app_session_takes_none_of_one_that_was_there_before_it() {
        let mut session = used();
        session.app_mut(AppIx(3)).unwrap().beat.proven = at(500);
        let before = clocks(&session);
        session.take_app(AppIx(3));
        session.app_or_new(AppIx(3), at(600));
        session.take_clocks(&before);
        assert!(session.app(AppIx(3)).unwrap().beat.proven.is_zero());
    }

    #[test]
    fn a_later_versions_are_left_alone_and_halves_end_nothing() {
        let session = used();
        let whole = clocks(&session);
        let mut newer = whole.clone();
        newer[0] = WRITTEN + 1;
        let mut other = Session::new(Handle(7), at(1));
        other.take_clocks(&newer);
        assert_eq!(other.last_activity, at(1));
        for end in 0..whole.len() {
            used().take_clocks(&whole[..end]);
        }
    }
}
