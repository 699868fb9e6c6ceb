//! A token that another app of the same group was given.
//!
//! Invariant: what is held of a shared token is all of the other's parts, or none.

use smallvec::SmallVec;

use super::AppSession;
use crate::bridge::lineage::Lineage;
use crate::bridge::share::Share;
use crate::bridge::vault::{Cookie, Role, Vault};
use crate::wire::jar::path_match;

/// The tokens of an app session as another one is to hold them.
#[derive(Debug, Default)]
pub(in crate::bridge) struct Loan {
    vault: Vault,
    lineages: SmallVec<[Lineage; 1]>,
    upstream: Option<u16>,
}

impl Loan {
    /// True where it has the token that is `token` in its app's rules.
    pub(in crate::bridge) fn has(&self, token: u8) -> bool {
        self.parts(token).next().is_some()
    }

    fn parts(&self, token: u8) -> impl Iterator<Item = (u8, Cookie<'_>)> {
        self.vault.iter().filter_map(move |cookie| match cookie.role {
            Role::Token { token: of, part } if of == token => Some((part, cookie)),
            _ => None,
        })
    }
}

impl AppSession {
    /// What of it others may hold.
    pub(in crate::bridge) fn loan(&self) -> Loan {
        Loan { vault: self.vault.clone(), lineages: self.lineages.clone(), upstream: self.upstream }
    }

    pub(in crate::bridge) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Apps of one group count the same generations.
    pub(in crate::bridge) const fn count_from(&mut self, generation: u32) {
        self.generation = generation;
    }

    /// Holds the shared tokens of `loan` as the other app holds them now, or no longer.
    pub(in crate::bridge) fn hold(&mut self, loan: &Loan, share: &Share) {
        let mut changed = false;
        for &(theirs, mine) in &share.tokens {
            let lineage = loan.lineages.get(usize::from(theirs)).copied();
            if self.lineages.len() <= usize::from(mine) {
                self.lineages.resize(usize::from(mine) + 1, Lineage::default());
            }
            if let Some((held, lineage)) = self.lineages.get_mut(usize::from(mine)).zip(lineage) {
                *held = lineage;
            }
            if !self.holds_same(loan, theirs, mine) {
                changed = true;
                self.forget(mine);
                for (part, cookie) in loan.parts(theirs) {
                    let fits = path_match(cookie.path, share.path.as_bytes());
                    let path = if fits { cookie.path } else { share.path.as_bytes() };
                    self.vault.put(&Cookie { role: Role::Token { token: mine, part }, path, ..cookie });
                }
            }
        }
        if changed {
            self.revision = self.revision.wrapping_add(1);
        }
        if share.same_servers {
            self.upstream = self.upstream.or(loan.upstream);
        }
    }

    fn holds_same(&self, loan: &Loan, theirs: u8, mine: u8) -> bool {
        let same = |part, cookie: Cookie<'_>| {
            self.vault
                .part(mine, part)
                .is_some_and(|held| (held.name, held.value) == (cookie.name, cookie.value))
        };
        let held = self
            .vault
            .iter()
            .filter(|cookie| matches!(cookie.role, Role::Token { token, .. } if token == mine));
        held.count() == loan.parts(theirs).count()
            && loan.parts(theirs).all(|(part, cookie)| same(part, cookie))
    }
}
