//! The last events of a session: what answers "why was I signed out?".
//!
//! Words only: an event never holds a token, a URL or anything a person typed.

use std::collections::VecDeque;

use super::beat::Verdict;
use super::packing::{Packer, Unpacker};
use super::rules::AppIx;
use super::session::End;
use crate::time::Timestamp;

/// How many events a session keeps.
const KEPT: usize = 32;

/// Something that happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The bridge session was made.
    Created,
    /// Its cookie came back for the first time.
    Bound,
    /// Its cookie was renewed.
    Renewed,
    /// An app gave its first token.
    TokenLearned,
    /// An app gave another token.
    TokenRotated,
    /// An app deleted its token.
    TokenDeleted,
    /// An answer's token was dropped, because a newer one had come meanwhile.
    TokenStale,
    /// A token was taken over from a URL.
    AdoptedUrl,
    /// A token was taken over from the browser's own cookie.
    AdoptedCookie,
    /// A token in a URL was not believed.
    UrlTokenRefused,
    /// A session on another host became one with this one.
    Joined,
    /// A heartbeat was judged; told when the verdict differs from the one before.
    Heartbeat(Verdict),
    /// A heartbeat found that the app session ended when the app was restarted.
    AppRestarted,
    /// Its server was gone: the person's request went to another one.
    Moved,
    /// Requests at a steady beat that nobody declared to be background.
    SteadyBeat,
    /// A sign-out was seen or asked for.
    SignOut,
    /// An app confirmed its sign-out.
    SignOutConfirmed,
    /// An app did not answer its sign-out request, or refused it.
    SignOutUnconfirmed,
    /// After the sign-out the old token opened nothing any more.
    SignOutProven,
    /// After the sign-out the old token still opened the session.
    SignOutStillAlive,
    /// The person asked for more time.
    Extended,
    /// It ended.
    Ended(End),
}

impl What {
    /// The word for it in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Bound => "bound",
            Self::Renewed => "id_renewed",
            Self::TokenLearned => "token_learned",
            Self::TokenRotated => "token_rotated",
            Self::TokenDeleted => "token_deleted",
            Self::TokenStale => "token_stale",
            Self::AdoptedUrl => "adopted_from_url",
            Self::AdoptedCookie => "adopted_from_cookie",
            Self::UrlTokenRefused => "url_token_refused",
            Self::Joined => "joined",
            Self::Heartbeat(_) => "heartbeat",
            Self::AppRestarted => "app_restarted",
            Self::Moved => "moved",
            Self::SteadyBeat => "steady_beat",
            Self::SignOut => "sign_out",
            Self::SignOutConfirmed => "sign_out_confirmed",
            Self::SignOutUnconfirmed => "sign_out_unconfirmed",
            Self::SignOutProven => "sign_out_proven",
            Self::SignOutStillAlive => "sign_out_still_alive",
            Self::Extended => "extended",
            Self::Ended(_) => "ended",
        }
    }

    /// What it says beyond its word.
    #[must_use]
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Heartbeat(verdict) => Some(verdict.as_str()),
            Self::Ended(end) => Some(end.as_str()),
            _ => None,
        }
    }
}

/// All that can happen; a place in here is what a packed timeline says.
const WORDS: [What; 33] = [
    What::Created,
    What::Bound,
    What::Renewed,
    What::TokenLearned,
    What::TokenRotated,
    What::TokenDeleted,
    What::TokenStale,
    What::AdoptedUrl,
    What::AdoptedCookie,
    What::UrlTokenRefused,
    What::Joined,
    What::AppRestarted,
    What::SteadyBeat,
    What::SignOut,
    What::SignOutConfirmed,
    What::SignOutUnconfirmed,
    What::SignOutProven,
    What::SignOutStillAlive,
    What::Extended,
    What::Heartbeat(Verdict::Alive),
    What::Heartbeat(Verdict::Reborn),
    What::Heartbeat(Verdict::Replaced),
    What::Heartbeat(Verdict::SignedOut),
    What::Heartbeat(Verdict::Unreachable),
    What::Ended(End::UserLogout),
    What::Ended(End::AppLogout),
    What::Ended(End::Operator),
    What::Ended(End::Idle),
    What::Ended(End::MaxLifetime),
    What::Ended(End::Evicted),
    What::Ended(End::Joined),
    What::Ended(End::Released),
    What::Moved,
];

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// In which app, if in one.
    pub app: Option<AppIx>,
    /// What.
    pub what: What,
}

/// The last events, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Timeline(VecDeque<Event>);

impl Timeline {
    /// Adds one; the oldest makes room.
    pub fn note(&mut self, at: Timestamp, app: Option<AppIx>, what: What) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Event { at, app, what });
    }

    /// Takes in what `theirs` tells beyond this; the oldest make room.
    pub(super) fn merge(&mut self, theirs: &Self) {
        if self.0 == theirs.0 {
            return;
        }
        let mut all: Vec<Event> = self.0.iter().chain(&theirs.0).copied().collect();
        all.sort_by_key(|event| (event.at, event.app, place(event.what)));
        all.dedup();
        let too_many = all.len().saturating_sub(KEPT);
        self.0 = all.into_iter().skip(too_many).collect();
    }

    /// When the last thing happened.
    pub(super) fn last(&self) -> Timestamp {
        self.0.back().map_or(Timestamp::ZERO, |event| event.at)
    }

    /// Writes it.
    pub(super) fn pack(&self, out: &mut Packer<'_>) {
        out.count(self.0.len());
        for event in &self.0 {
            out.time(event.at);
            out.number(event.app.map_or(0, |app| u32::from(app.0) + 1));
            out.count(place(event.what));
        }
    }

    /// Reads what [`Timeline::pack`] wrote.
    pub(super) fn unpack(from: &mut Unpacker<'_>) -> Self {
        let events = (0..from.count()).map(|_| Event {
            at: from.time(),
            app: from.narrow::<u32>().checked_sub(1).and_then(|app| Some(AppIx(app.try_into().ok()?))),
            what: WORDS.get(from.narrow::<usize>()).copied().unwrap_or(What::Created),
        });
        Self(events.collect())
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.0.iter()
    }
}

fn place(what: What) -> usize {
    WORDS.iter().position(|word| *word == what).unwrap_or(WORDS.len())
}
