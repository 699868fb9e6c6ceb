//! Where a token's present value comes from: which answers may still replace it.
//!
//! Each token of an app session has a lineage of its own, since an answer may set one and leave another: of two answers
//! that set different tokens, neither overtakes the other.
//!
//! Invariant: of the answers to requests that carried one value, the same one stays, in whatever order they come: whole
//! sets before partial ones, unsafe methods before safe ones, later starts before earlier ones.

use super::app_session::Sent;
use super::packing::{Packer, Unpacker};
use crate::time::Timestamp;

/// The descent of one token's value. Generations are counted over all tokens of the app session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lineage {
    /// Requests sent with this generation or a later one carry the present value.
    since: u32,
    /// Requests sent with a generation of this range carried the value that the present one replaced.
    parent: (u32, u32),
    /// The answer that brought it named all its parts.
    whole: bool,
    /// It answered an unsafe method.
    by_unsafe: bool,
    /// When its request began.
    brought: Timestamp,
}

/// How an answer stands to the present value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its request carried the present value.
    Current,
    /// Its request carried the value that the present one replaced.
    Rival,
    /// Overtaken.
    Stale,
}

impl Lineage {
    /// Of a value that nothing sent before `generation` may replace.
    pub(super) const fn fresh(generation: u32) -> Self {
        let parent = (generation, generation);
        Self { since: generation, parent, whole: true, by_unsafe: false, brought: Timestamp::ZERO }
    }

    /// Whether the answer to `sent` may change the value. `whole`: it names all parts.
    pub(super) fn accepts(&self, sent: Sent, whole: bool) -> bool {
        match self.standing(sent) {
            Standing::Current => true,
            Standing::Stale => false,
            Standing::Rival => self.yields_to(sent, whole),
        }
    }

    /// Whether a rival's answer takes the place of the one that brought the value. Parts that a rival does not name would stay
    /// those of the value that it replaces.
    pub(super) fn yields_to(&self, sent: Sent, whole: bool) -> bool {
        whole && (!self.whole, sent.unsafe_method, sent.started) > (false, self.by_unsafe, self.brought)
    }

    /// The answer to `sent` has changed the value, as generation `generation`.
    pub(super) fn begin(&mut self, generation: u32, sent: Sent, whole: bool) {
        let parent = match self.standing(sent) {
            Standing::Rival => self.parent,
            Standing::Current | Standing::Stale => (self.since, generation),
        };
        *self =
            Self { since: generation, parent, whole, by_unsafe: sent.unsafe_method, brought: sent.started };
    }

    /// Writes it.
    pub(super) fn pack(&self, out: &mut Packer<'_>) {
        let (from, to) = self.parent;
        for generation in [self.since, from, to] {
            out.number(generation);
        }
        out.byte(u8::from(self.whole) | u8::from(self.by_unsafe) << 1);
        out.time(self.brought);
    }

    /// Reads what [`Lineage::pack`] wrote.
    pub(super) fn unpack(from: &mut Unpacker<'_>) -> Self {
        let (since, parent, bits) = (from.narrow(), (from.narrow(), from.narrow()), from.byte());
        Self { since, parent, whole: bits & 1 != 0, by_unsafe: bits & 2 != 0, brought: from.time() }
    }

    fn standing(&self, sent: Sent) -> Standing {
        if sent.generation >= self.since {
            Standing::Current
        } else if (self.parent.0..self.parent.1).contains(&sent.generation) {
            Standing::Rival
        } else {
            Standing::Stale
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(generation: u32, started: u64, unsafe_method: bool) -> Sent {
        Sent { generation, revision: 0, started: Timestamp::from_secs(started), unsafe_method }
    }

    #[test]
    fn rivals_are_ranked_by_wholeness_then_method_then_start() {
        let mut token = Lineage::default();
        token.begin(1, sent(0, 10, false), true);
        assert!(token.accepts(sent(0, 11, false), true), "later");
        assert!(!token.accepts(sent(0, 9, false), true), "earlier");
        assert!(token.accepts(sent(0, 9, true), true), "unsafe");
        assert!(!token.accepts(sent(0, 11, true), false), "half");
        token.begin(2, sent(0, 9, true), true);
        assert!(!token.accepts(sent(0, 11, false), true), "a safe one no longer counts");
        assert!(!token.accepts(sent(1, 12, true), true), "sent with the rival that was overtaken");
        assert!(token.accepts(sent(2, 1, false), false), "the current one");
    }

    #[test]
    fn a_partial_value_yields_to_a_whole_one() {
        let mut token = Lineage::default();
        token.begin(1, sent(0, 20, true), false);
        assert!(token.accepts(sent(0, 1, false), true));
    }

    #[test]
    fn nothing_older_replaces_a_fresh_one() {
        let token = Lineage::fresh(5);
        assert!(!token.accepts(sent(4, 9, true), true));
        assert!(token.accepts(sent(5, 9, false), true));
    }
}
