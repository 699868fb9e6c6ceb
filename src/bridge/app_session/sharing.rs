//! A token that another app of the same group was given.
//!
//! Invariant: what is held of a shared token is all of the other's parts, or none.

use smallvec::SmallVec;

use super::{AppSession, Fence};
use crate::bridge::lineage::Lineage;
use crate::bridge::rules::TokenRule;
use crate::bridge::share::Share;
use crate::bridge::vault::{Cookie, Role, Vault};
use crate::time::Timestamp;
use crate::wire::jar::path_match;

/// The tokens of an app session as others are to hold them; without an app session, that there are none.
#[derive(Debug)]
pub(in crate::bridge) struct Loan<'a> {
    rules: &'a [TokenRule],
    vault: Vault,
    lineages: SmallVec<[Lineage; 1]>,
    fence: Fence,
    upstream: Option<u16>,
    adopted: bool,
    /// `None`: what it did was not counted with the group.
    generation: Option<u32>,
}

impl<'a> Loan<'a> {
    /// What others may hold of `session`, whose app has the tokens of `rules`.
    pub(in crate::bridge) fn of(session: Option<&AppSession>, rules: &'a [TokenRule]) -> Self {
        let none = || Self {
            rules,
            vault: Vault::default(),
            lineages: SmallVec::new(),
            fence: Fence::default(),
            upstream: None,
            adopted: false,
            generation: None,
        };
        session.map_or_else(none, |session| Self {
            rules,
            vault: session.vault.clone(),
            lineages: session.lineages.clone(),
            fence: session.fence,
            upstream: session.upstream,
            adopted: session.adopted,
            generation: (!session.apart).then_some(session.generation),
        })
    }

    /// True where it has the token that is `token` in its app's rules.
    pub(in crate::bridge) fn has(&self, token: u8) -> bool {
        self.parts(token).next().is_some()
    }

    /// True where a change of `token` was an answer's, counted on from the generation that the `others` have: its descent
    /// tells which of their answers it overtakes. A rolling token begins no generation.
    pub(in crate::bridge) fn leads(&self, token: u8, others: Option<u32>) -> bool {
        self.generation.is_some_and(|own| {
            others.is_none_or(|others| own > others || own == others && self.is_rolling(token))
        })
    }

    /// No request that began before `now` may change `token` any more: it is of `generation`.
    pub(in crate::bridge) fn settle(&mut self, token: u8, generation: u32, now: Timestamp) {
        put_lineage(&mut self.lineages, token, Lineage::fresh(generation));
        if self.is_rolling(token) {
            self.fence = Fence { came: now, started: now, deletes: !self.has(token) };
            let held = self.vault.clone();
            for cookie in held.iter().filter(|cookie| is_of(cookie.role, token)) {
                self.vault.put(&Cookie { started: now.micros(), ..cookie });
            }
        }
    }

    fn is_rolling(&self, token: u8) -> bool {
        self.rules.get(usize::from(token)).is_some_and(|rule| rule.rolling)
    }

    fn parts(&self, token: u8) -> impl Iterator<Item = (u8, Cookie<'_>)> {
        self.vault.iter().filter_map(move |cookie| match cookie.role {
            Role::Token { token: of, part } if of == token => Some((part, cookie)),
            _ => None,
        })
    }
}

impl AppSession {
    pub(in crate::bridge) const fn generation(&self) -> u32 {
        self.generation
    }

    /// It comes from elsewhere: what it counted is not what its group here counts.
    pub(in crate::bridge) const fn set_apart(&mut self) {
        self.apart = true;
    }

    /// Apps of one group count the same generations.
    pub(in crate::bridge) const fn count_from(&mut self, generation: u32) {
        self.generation = generation;
        self.apart = false;
    }

    /// What was lent of it has been settled.
    pub(in crate::bridge) fn settle(&mut self, loan: &Loan<'_>) {
        self.vault.clone_from(&loan.vault);
        self.lineages.clone_from(&loan.lineages);
        self.fence = loan.fence;
    }

    /// Holds the shared tokens of `loan` as the other app holds them now, or no longer.
    pub(in crate::bridge) fn hold(&mut self, loan: &Loan<'_>, share: &Share) {
        let mut changed = false;
        let mut adopted = false;
        for &(theirs, mine) in &share.tokens {
            if let Some(lineage) = loan.lineages.get(usize::from(theirs)) {
                put_lineage(&mut self.lineages, mine, *lineage);
            }
            if self.holds_same(loan, theirs, mine) {
                continue;
            }
            changed = true;
            adopted |= loan.adopted && loan.has(theirs);
            self.take_parts(loan, share, (theirs, mine));
            // One that is older than an own one was mirrored before.
            if loan.is_rolling(theirs) && loan.fence.came > self.fence.came {
                self.fence = loan.fence;
            }
        }
        if changed {
            self.revision = self.revision.wrapping_add(1);
            self.adopted = adopted;
        }
        if share.same_servers {
            // The session that a new token names lives where it was given.
            let (first, second) =
                if changed { (loan.upstream, self.upstream) } else { (self.upstream, loan.upstream) };
            self.upstream = first.or(second);
        }
    }

    fn take_parts(&mut self, loan: &Loan<'_>, share: &Share, (theirs, mine): (u8, u8)) {
        self.forget(mine);
        for (part, cookie) in loan.parts(theirs) {
            let fits = path_match(cookie.path, share.path.as_bytes());
            let path = if fits { cookie.path } else { share.path.as_bytes() };
            self.vault.put(&Cookie { role: Role::Token { token: mine, part }, path, ..cookie });
        }
    }

    /// True where its token `mine` is what `loan` has as `theirs`.
    pub(in crate::bridge) fn holds_same(&self, loan: &Loan<'_>, theirs: u8, mine: u8) -> bool {
        let same = |part, cookie: Cookie<'_>| {
            self.vault
                .part(mine, part)
                .is_some_and(|held| (held.name, held.value) == (cookie.name, cookie.value))
        };
        let held = self.vault.iter().filter(|cookie| is_of(cookie.role, mine));
        held.count() == loan.parts(theirs).count()
            && loan.parts(theirs).all(|(part, cookie)| same(part, cookie))
    }
}

fn put_lineage(lineages: &mut SmallVec<[Lineage; 1]>, token: u8, lineage: Lineage) {
    let at = usize::from(token);
    if lineages.len() <= at {
        lineages.resize(at + 1, Lineage::default());
    }
    if let Some(held) = lineages.get_mut(at) {
        *held = lineage;
    }
}

fn is_of(role: Role, token: u8) -> bool {
    matches!(role, Role::Token { token: of, .. } if of == token)
}
