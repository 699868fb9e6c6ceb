//! What the proxy has found out about the apps by itself: by its probes, and by what happens to sessions.
//!
//! Invariants: a finding is words about an app, never about a person, and holds no token; of one kind an app has one at a
//! time, the newest; what has turned out otherwise is taken back; no probe has a say in what people's sessions have proved.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bridge::rules::AppIx;
use crate::time::Timestamp;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Which token the app gives, and whether it is its engine's.
    Token,
    /// The heartbeat page: whether it answers, and whether it asks for a sign-in.
    HeartbeatPage,
    /// Whether the heartbeat page extends a session.
    Extends,
    /// Whether the canary is in what the heartbeat page shows.
    Canary,
    /// Whether the app's sign-out ends a session.
    SignOut,
    /// The app's own session timeout.
    Timeout,
    /// Many sessions ended at once.
    Restart,
    /// Sessions die before the configured timeout.
    EarlyDeath,
}

impl Kind {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::Token,
        Self::HeartbeatPage,
        Self::Extends,
        Self::Canary,
        Self::SignOut,
        Self::Timeout,
        Self::Restart,
        Self::EarlyDeath,
    ];

    /// The word for it in the API and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::HeartbeatPage => "heartbeat_page",
            Self::Extends => "extends",
            Self::Canary => "canary",
            Self::SignOut => "sign_out",
            Self::Timeout => "timeout",
            Self::Restart => "restart",
            Self::EarlyDeath => "early_death",
        }
    }

    /// The key below `apps.NAME` that it is about: where the config says what was found to be otherwise.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Token => "session.engine",
            Self::HeartbeatPage | Self::Extends => "heartbeat.path",
            Self::Canary => "heartbeat.canary",
            Self::SignOut => "sign_out.request",
            Self::Timeout | Self::Restart | Self::EarlyDeath => "session.timeout",
        }
    }
}

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// It cannot be told, or is worth knowing.
    Note,
    /// The config says otherwise, or sessions are lost.
    Warning,
}

impl Level {
    /// The word for it in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// When.
    pub at: Timestamp,
    /// In which app.
    pub app: AppIx,
    /// What about.
    pub kind: Kind,
    /// How to take it.
    pub level: Level,
    /// One sentence for the operator, with what to do where there is something to do.
    pub says: String,
}

/// What has been found, for all threads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    all: Arc<Mutex<Vec<Entry>>>,
    places: Arc<Mutex<Places>>,
}

/// A finding, and who found it.
#[derive(Clone, Debug)]
struct Entry {
    found: Found,
    /// A probe: on sessions that nobody had signed in to.
    probed: bool,
}

/// File and line of the setting that a finding of this kind is about, by app.
pub type Places = BTreeMap<(AppIx, Kind), String>;

impl Findings {
    /// None yet; what is found has its place in the config in `places`.
    #[must_use]
    pub fn new(places: Places) -> Self {
        Self { all: Arc::default(), places: Arc::new(Mutex::new(places)) }
    }

    /// After a reload: the settings have other places, and what was found out about an app without any is forgotten.
    pub fn set_places(&self, places: Places) {
        self.entries().retain(|Entry { found, .. }| places.contains_key(&(found.app, found.kind)));
        *self.places() = places;
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the config says what a finding of `kind` in `app` is about: `config.toml:12`.
    #[must_use]
    pub fn place(&self, app: AppIx, kind: Kind) -> Option<String> {
        self.places().get(&(app, kind)).cloned()
    }

    /// Takes `found` in the place of what was known of the same kind and app. True where it says something new.
    pub fn put(&self, found: Found) -> bool {
        self.enter(Entry { found, probed: false })
    }

    /// As [`Findings::put`], for what a probe found: where people's own sessions have shown how it is, that stands.
    pub fn put_probed(&self, found: Found) -> bool {
        self.enter(Entry { found, probed: true })
    }

    /// True where a warning stands that a probe of `app` gave, and that a probe which waits for nothing can take back.
    #[must_use]
    pub fn is_to_be_mended(&self, app: AppIx) -> bool {
        let quick = |kind| !matches!(kind, Kind::Extends | Kind::Timeout);
        self.entries().iter().any(|Entry { found, probed }| {
            *probed && found.app == app && found.level == Level::Warning && quick(found.kind)
        })
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, entry: Entry) -> bool {
        let about = |entry: &Entry| (entry.found.app, entry.found.kind);
        if !self.places().is_empty() && !self.places().contains_key(&about(&entry)) {
            // Whoever found it began with an older config, which still had that app.
            return false;
        }
        let mut all = self.entries();
        let Some(old) = all.iter_mut().find(|old| about(old) == about(&entry)) else {
            all.push(entry);
            all.sort_by_key(about);
            return true;
        };
        if entry.probed && !old.probed {
            return false;
        }
        let new = (old.found.level, &old.found.says) != (entry.found.level, &entry.found.says);
        *old = entry;
        new
    }

    /// Takes back what was found of `kind` in `app`.
    pub fn take_back(&self, app: AppIx, kind: Kind) {
        self.entries().retain(|Entry { found, .. }| (found.app, found.kind) != (app, kind));
    }

    /// All, by app and kind.
    #[must_use]
    pub fn all(&self) -> Vec<Found> {
        self.entries().iter().map(|entry| entry.found.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(app: u16, kind: Kind, says: &str) -> Found {
        let (at, says) = (Timestamp::from_millis(1), says.to_owned());
        Found { at, app: AppIx(app), kind, level: Level::Warning, says }
    }

    #[test]
    fn a_probe_has_no_say_in_what_people_have_proved() {
        let findings = Findings::default();
        assert!(findings.put_probed(found(0, Kind::SignOut, "refused")));
        assert!(findings.put_probed(found(0, Kind::SignOut, "refused otherwise")), "its own it may mend");
        assert!(findings.is_to_be_mended(AppIx(0)) && !findings.is_to_be_mended(AppIx(1)));
        assert!(findings.put(found(0, Kind::SignOut, "the old session still answers")));
        assert!(!findings.put_probed(found(0, Kind::SignOut, "all is well")));
        assert_eq!(findings.all()[0].says, "the old session still answers");
        assert!(!findings.is_to_be_mended(AppIx(0)), "no probe can");
        assert!(findings.put_probed(found(0, Kind::Extends, "it does not")));
        assert!(!findings.is_to_be_mended(AppIx(0)), "not without waiting");
    }

    #[test]
    fn the_newest_of_a_kind_stands_and_can_be_taken_back() {
        let findings = Findings::default();
        assert!(findings.put(found(1, Kind::Extends, "it does not")));
        assert!(findings.put(found(0, Kind::Restart, "3 sessions")));
        assert!(!findings.put(found(0, Kind::Restart, "3 sessions")), "nothing new");
        assert!(findings.put(found(0, Kind::Restart, "5 sessions")));
        let says: Vec<String> = findings.all().into_iter().map(|found| found.says).collect();
        assert_eq!(says, ["5 sessions", "it does not"]);
        findings.take_back(AppIx(0), Kind::Restart);
        assert_eq!(findings.all().len(), 1);
    }
}
