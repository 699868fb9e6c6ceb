//! How a dead session is told from a living one in this app: found out by trial, on sessions that are known to live.
//!
//! Invariant: a witness is used only after it has said "alive" of a living session, and, where that can be had, "dead" of one
//! that never was.

use std::time::Duration;

use super::canary::{Facts, Unknown};
use super::visitor::{self, Heard, Silent, Visitor};
use super::{Case, canary};
use crate::bridge::rules::Engine;
use crate::bridge::vault::{Cookie, Role};
use crate::findings::Level;
use crate::ping::reading;
use crate::time::Timestamp;

/// A page that begins sessions, and what tells their life.
pub(super) struct Way {
    pub(super) opener: String,
    pub(super) witness: Witness,
}

/// What tells a dead session from a living one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// The canary of the heartbeat page.
    Canary,
    /// The app gives a new token to who shows one that it does not know.
    Token,
    /// An id in a URL is taken only where its session is in memory (Lucee's CF sessions). One that has expired is there until
    /// the next sweep, a minute later (seen on 6.2).
    Url,
}

impl Witness {
    /// How long a dead session may be taken for a living one.
    pub(super) const fn late(self) -> Duration {
        match self {
            Self::Canary | Self::Token => Duration::ZERO,
            Self::Url => Duration::from_secs(120),
        }
    }
}

/// What a look at a session showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    Dead,
    /// The app did not answer as itself.
    Unknown,
    /// The app did not answer.
    Silent,
}

/// A look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) life: Life,
    /// How long the session had not been used: at least and at most.
    pub(super) idle: (Duration, Duration),
}

/// Two canaries are compared that began at least so far apart: some pages show whole seconds.
pub(super) const APART: Duration = Duration::from_millis(1100);
/// A lone id is made up only where it is so long that it cannot be anybody's.
const LONG: usize = 20;

impl<'a> Case<'a> {
    /// Finds the way, and what there is to say of the canary.
    pub(super) async fn way(&self) -> (Option<Way>, (Level, String)) {
        let mut openers = vec![&*self.beat.path];
        openers.extend(Some(self.root()).filter(|root| **root != *self.beat.path));
        let (mut facts, mut adopts) = (None, Unknown::Untried);
        for opener in openers {
            if self.lost.get() {
                break;
            }
            let Some(one) = self.begin(opener).await else { continue };
            let within_another = self.is_within_another(&one);
            let opener = &*one.at.clone();
            let seen = match facts {
                Some(facts) => facts,
                None => self.canaries(opener, one).await,
            };
            facts = Some(seen);
            let trial = self.takes_made_up(opener).await;
            adopts = match (trial, within_another) {
                (Some(true), _) => Unknown::Taken,
                (Some(false), true) => Unknown::ReplacedAbove,
                (Some(false), false) => Unknown::Replaced,
                (None, _) => adopts,
            };
            let witness = if seen.tells() {
                Some(Witness::Canary)
            } else if trial == Some(false) && !within_another {
                Some(Witness::Token)
            } else {
                self.url_tells(opener).await.then_some(Witness::Url)
            };
            if let Some(witness) = witness {
                let way = Way { opener: opener.to_owned(), witness };
                return (Some(way), canary::judge(self, seen, adopts, Some(witness)));
            }
        }
        (None, canary::judge(self, facts.unwrap_or_default(), adopts, None))
    }

    /// True where the id is a container's, whose session outlives the app's own by a minute and more (Lucee's J2EE sessions).
    fn is_within_another(&self, visitor: &Visitor<'_>) -> bool {
        let deciding = visitor.session().deciding().map(usize::from);
        let token = deciding.and_then(|token| self.session.tokens.get(token));
        self.session.engine == Engine::Lucee && token.is_some_and(|token| token.parts.len() == 1)
    }

    /// A session that `opener` has begun. `None` where it begins none, or, which is `lost`, does not answer.
    async fn begin(&self, opener: &str) -> Option<Visitor<'a>> {
        let mut visitor = self.visitor();
        let opened = visitor.open(opener).await;
        self.answered(opened)?;
        if visitor::is_down(visitor.opened) {
            self.lost.set(true);
            return None;
        }
        visitor.has_token().then_some(visitor)
    }

    /// What the app answered; `None`, and all is `lost`, where it could not answer.
    pub(super) fn answered(&self, heard: Result<Heard, Silent>) -> Option<Heard> {
        let heard = heard.ok().filter(|heard| !heard.is_down());
        self.lost.set(self.lost.get() || heard.is_none());
        heard
    }

    /// What the canary of two sessions is, the first of them asked twice. Worth nothing where something was `lost`.
    async fn canaries(&self, opener: &str, mut one: Visitor<'a>) -> Facts {
        if self.beat.canary.is_none() {
            return Facts::default();
        }
        let seen = |heard: Result<Heard, Silent>| self.answered(heard).and_then(|heard| heard.canary);
        let first = seen(one.beat().await);
        tokio::time::sleep(APART).await;
        let again = seen(one.beat().await);
        let Some(mut two) = self.begin(opener).await else {
            self.lost.set(true);
            return Facts::default();
        };
        let other = seen(two.beat().await);
        Facts { present: first.is_some(), steady: first == again, differs: first != other && other.is_some() }
    }

    /// Whether the app takes an id that it never gave: `None` where that was not tried, or cannot be told.
    async fn takes_made_up(&self, opener: &str) -> Option<bool> {
        let mut like = self.begin(opener).await?;
        // A token that changes with each answer proves nothing.
        if self.answered(like.get(opener).await)?.replaced() {
            return None;
        }
        let held: Vec<_> = like.session().vault().iter().collect();
        let deciding = like.session().deciding()?;
        let is_own =
            |cookie: &&Cookie<'_>| matches!(cookie.role, Role::Token { token, .. } if token == deciding);
        let last = held.iter().filter(is_own).filter_map(|cookie| part(cookie.role)).max()?;
        let rolling = self.session.tokens.get(usize::from(deciding)).is_none_or(|rule| rule.rolling);
        let forged: Vec<(Cookie<'_>, Vec<u8>)> = held
            .iter()
            .filter(is_own)
            .map(|cookie| {
                let changed = part(cookie.role) == Some(last);
                (*cookie, if changed { made_up(cookie.value) } else { cookie.value.to_vec() })
            })
            .collect();
        let long = forged.iter().any(|(_, value)| value.len() >= LONG);
        if rolling || last == 0 && !long {
            return None;
        }
        let cookies = forged.iter().map(|(cookie, value)| Cookie { value, ..*cookie });
        let mut stranger = self.visitor().with_token(cookies, &like);
        let opened = like.opened;
        let Ok(heard) = stranger.get(opener).await else {
            self.lost.set(true);
            return None;
        };
        if heard.is_down() {
            // The app itself, or only its way with ids that it does not know?
            self.answered(like.get(opener).await)?;
            return None;
        }
        (heard.replaced() || heard.status == opened).then_some(!heard.replaced())
    }

    /// True where an id in the URL of `opener` comes back while its session is in memory.
    async fn url_tells(&self, opener: &str) -> bool {
        let Some(visitor) = self.begin(opener).await else { return false };
        self.session.engine == Engine::Lucee && self.by_url(&visitor, opener).await == Life::Alive
    }

    /// Shows the token of `visitor` in the URL of `page`, as a stranger without cookies.
    async fn by_url(&self, visitor: &Visitor<'a>, page: &str) -> Life {
        let Some(token) = visitor.session().deciding() else { return Life::Unknown };
        let (mut target, mut shown) = (page.to_owned(), Vec::new());
        for own in self.session.parts().filter(|own| own.parts > 1) {
            let Role::Token { token: of, part } = own.role else { continue };
            let value = visitor.session().vault().part(token, part).filter(|_| of == token);
            if let (Some(value), Some(name)) = (value, &own.rule.query) {
                target.push(if target.contains('?') { '&' } else { '?' });
                target.push_str(&format!("{name}={}", String::from_utf8_lossy(value.value)));
                shown.push((own.role, value.value.to_vec()));
            }
        }
        if shown.is_empty() {
            return Life::Unknown;
        }
        let mut stranger = self.visitor();
        stranger.go_beside(visitor);
        match stranger.get(&target).await {
            Ok(heard) if !heard.is_down() && !heard.tokens.is_empty() => {
                if shown.iter().all(|part| heard.tokens.contains(part)) { Life::Alive } else { Life::Dead }
            }
            Ok(_) => Life::Unknown,
            Err(Silent) => Life::Silent,
        }
    }

    /// A session to be looked at later.
    pub(super) async fn open(&self, way: &Way) -> Option<Visitor<'a>> {
        let mut visitor = self.begin(&way.opener).await?;
        if way.witness == Witness::Canary {
            visitor.canary = self.answered(visitor.beat().await)?.canary;
            visitor.canary.as_ref()?;
        }
        Some(visitor)
    }

    /// Looks whether the session of `visitor` lives. It is of no use for another look afterwards: some engines begin a new
    /// one under the old id.
    pub(super) async fn look(&self, way: &Way, visitor: &mut Visitor<'a>) -> Look {
        let (used, before) = (visitor.used, self.prober.clock.now());
        let known = visitor.canary.take();
        let mut life = self.ask_witness(way, visitor, &known).await;
        if matches!(life, Life::Unknown | Life::Silent) {
            // Some engines answer 500 once to who shows a session that was invalidated.
            life = self.ask_witness(way, visitor, &known).await;
        }
        // An app that answers each dead id with an error would do so another time, too.
        if life == Life::Silent {
            self.lost.set(true);
        }
        let after = self.prober.clock.now();
        Look { life, idle: idle(used, (before, after)) }
    }

    async fn ask_witness(&self, way: &Way, visitor: &mut Visitor<'a>, known: &Option<Vec<u8>>) -> Life {
        match way.witness {
            Witness::Canary => told(visitor.beat().await, |heard| self.same_canary(heard, known)),
            Witness::Token => {
                let opened = visitor.opened;
                told(visitor.get(&way.opener).await, |heard| (heard.status == opened).then_some(true))
            }
            Witness::Url => self.by_url(visitor, &way.opener).await,
        }
    }

    /// Whether `heard` has the canary `known`: `None` where the heartbeat page did not answer as itself, or shows none.
    pub(super) fn same_canary(&self, heard: &Heard, known: &Option<Vec<u8>>) -> Option<bool> {
        let allowed = reading::alive_status(&self.beat.alive, heard.status);
        (allowed && heard.canary.is_some()).then_some(heard.canary == *known)
    }
}

/// What an answer to who shows a token tells, where `same` says whether it is of the same session: `None`, it cannot be told.
fn told(heard: Result<Heard, Silent>, same: impl FnOnce(&Heard) -> Option<bool>) -> Life {
    match heard {
        Err(Silent) => Life::Silent,
        Ok(heard) if heard.is_down() => Life::Unknown,
        Ok(heard) if heard.replaced() => Life::Dead,
        Ok(heard) => match same(&heard) {
            Some(true) => Life::Alive,
            Some(false) => Life::Dead,
            None => Life::Unknown,
        },
    }
}

/// How long nothing was used between two requests: at least and at most.
pub(super) fn idle(used: (Timestamp, Timestamp), look: (Timestamp, Timestamp)) -> (Duration, Duration) {
    (look.0.since(used.1), look.1.since(used.0))
}

const fn part(role: Role) -> Option<u8> {
    match role {
        Role::Token { part, .. } => Some(part),
        Role::Plain => None,
    }
}

/// An id of the same shape that was never given: each letter and digit up to a node's suffix is another of its kind.
fn made_up(value: &[u8]) -> Vec<u8> {
    let end = value.iter().position(|octet| matches!(octet, b'.' | b'!')).unwrap_or(value.len());
    let other = |octet: u8| match octet {
        b'0'..=b'5' => b'0' + b'5' - octet,
        b'6'..=b'9' => b'6' + b'9' - octet,
        b'a'..=b'f' => b'a' + b'f' - octet,
        b'g'..=b'z' => b'g' + b'z' - octet,
        b'A'..=b'F' => b'A' + b'F' - octet,
        b'G'..=b'Z' => b'G' + b'Z' - octet,
        kept => kept,
    };
    value.iter().enumerate().map(|(at, &octet)| if at < end { other(octet) } else { octet }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_id_has_the_shape_of_a_real_one_and_no_octet_of_it() {
        for real in ["0123456789ABCDEF.node1", "abcxyz059", "5278bea6-1030-c351"] {
            let made = String::from_utf8(made_up(real.as_bytes())).unwrap();
            assert_eq!(made.len(), real.len());
            for (one, other) in real.split('.').next().unwrap().chars().zip(made.chars()) {
                assert!(one != other || one == '-', "{real} {made}");
                assert_eq!(one.is_ascii_digit(), other.is_ascii_digit(), "{real} {made}");
                assert_eq!(one.is_ascii_uppercase(), other.is_ascii_uppercase(), "{real} {made}");
            }
        }
        assert!(made_up(b"AB.node1").ends_with(b".node1"));
    }

    #[test]
    fn idle_is_between_the_ends_of_both_requests() {
        let at = Timestamp::from_millis;
        let (least, most) = idle((at(1_000), at(1_200)), (at(5_000), at(5_300)));
        assert_eq!((least, most), (Duration::from_millis(3_800), Duration::from_millis(4_300)));
    }
}
