//! A timing wheel: a million things to do later, each armed and fired in constant time.
//!
//! Three levels of 4096 slots. A slot of the lowest level is 10 ms, a slot of each further level is as long as
//! all slots of the level below it: 41 s, two days. Of an entry's time four bytes are kept, a tick within
//! [`HORIZON`] of the present. An entry lies at the lowest level that reaches as far as it is away; when the present
//! enters its slot it moves down: once for a heartbeat that is minutes or hours away. Levels are this wide so
//! that few entries move at once.
//!
//! Invariants: every entry's tick is later than `tick`; the slot of a level in which the present lies holds
//! only entries that are one turn of that level away. Nothing within the horizon fires early, nothing later than
//! one slot after the first [`Wheel::advance`] that could have fired it.
//!
//! Nothing is taken out before it is due: what was armed for a session that has moved on is recognised when
//! it fires (a generation number in `T`), which is cheaper than finding it.

use std::time::Duration;

use crate::time::Timestamp;

/// What is armed for later fires then: whoever wants more must ask again. 248 days.
pub const HORIZON: Duration = Duration::from_micros(REACH * SLOT_MICROS);

/// Ticks that an entry can be away.
const REACH: u64 = 1 << 31;
/// One slot of the lowest level, in microseconds: how late an entry may fire.
const SLOT_MICROS: u64 = 10_000;
/// Bits of a tick that one level covers.
const BITS: u32 = 12;
/// Slots of one level.
const SLOTS: usize = 1 << BITS;
/// Enough for the horizon.
const LEVELS: usize = 3;
/// Entries of one block: large enough that its own cost per entry is small, small enough that half-empty ones
/// are.
const BLOCK: usize = 32;
/// No block.
const NIL: u32 = u32::MAX;

/// Things of type `T`, small and cheap to move, by the time they are due.
#[derive(Debug)]
pub struct Wheel<T> {
    /// Everything due at or before this tick has fired.
    tick: u64,
    len: usize,
    levels: Vec<Level>,
    blocks: Blocks<T>,
}

impl<T> Wheel<T> {
    /// An empty wheel that starts to turn at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let levels = (0..LEVELS).map(|_| Level::default()).collect();
        Self { tick: now.micros() / SLOT_MICROS, len: 0, levels, blocks: Blocks::default() }
    }

    /// Arms `item` for `due`. What is due already fires within one slot, never inside this call.
    pub fn insert(&mut self, due: Timestamp, item: T) {
        self.len += 1;
        let tick = tick_of(due).clamp(self.tick + 1, self.tick.saturating_add(REACH));
        self.place(tick, item);
    }

    /// Fires everything due at `now`: `fire` is given the item and the end of the slot in which it was due. Slot by
    /// slot in order of time; within a slot in no order. A `now` before an earlier one fires nothing.
    pub fn advance(&mut self, now: Timestamp, mut fire: impl FnMut(T, Timestamp)) {
        let target = now.micros() / SLOT_MICROS;
        while let Some(next) = self.next_tick().filter(|next| *next <= target) {
            self.tick = next;
            // From the top: what comes down from a level belongs to slots that are not reached yet, or fires.
            for level in (0..LEVELS).rev().filter(|level| begins(next, *level)) {
                self.drain(level, &mut fire);
            }
        }
        self.tick = self.tick.max(target);
    }

    /// When [`Wheel::advance`] should be called next; `None` while nothing is armed. It may have nothing to
    /// fire then, only entries to move: at most once in 41 seconds.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.next_tick().map(time_of)
    }

    /// How many are armed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True where nothing is armed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fires or moves down what is in the slot of a level that the present has just entered.
    fn drain(&mut self, level: usize, fire: &mut impl FnMut(T, Timestamp)) {
        let slot = digit(self.tick, level);
        let mut head = self.levels.get_mut(level).map_or(NIL, |level| level.take(slot));
        while head != NIL {
            let (entries, rest) = self.blocks.detach(head);
            self.turn(entries, head, fire);
            head = rest;
        }
    }

    /// Fires or moves down what was in one block, and keeps the block for later.
    fn turn(&mut self, mut entries: Vec<Entry<T>>, block: u32, fire: &mut impl FnMut(T, Timestamp)) {
        for Entry { due, item } in entries.drain(..) {
            let tick = self.tick + u64::from(due.wrapping_sub(low(self.tick)));
            if tick == self.tick {
                self.len -= 1;
                fire(item, time_of(tick));
            } else {
                self.place(tick, item);
            }
        }
        self.blocks.release(block, entries);
    }

    /// Puts `item` where `tick` is, which is later than the present.
    fn place(&mut self, tick: u64, item: T) {
        let at = ((tick - self.tick).ilog2() / BITS) as usize;
        let slot = digit(tick, at);
        let Some(level) = self.levels.get_mut(at) else { return };
        let Some(head) = level.heads.get_mut(slot) else { return };
        if *head == NIL {
            level.occupied.set(slot);
        }
        *head = self.blocks.push(*head, Entry { due: low(tick), item });
    }

    /// The tick at which the next occupied slot of any level begins.
    fn next_tick(&self) -> Option<u64> {
        let ticks = self.levels.iter().enumerate().filter_map(|(at, level)| {
            let present = digit(self.tick, at);
            let slot = level.occupied.first_after(present)?;
            let ahead = (slot.wrapping_sub(present + 1) & (SLOTS - 1)) + 1;
            let shift = BITS as usize * at;
            Some(((self.tick >> shift) + ahead as u64) << shift)
        });
        ticks.min()
    }
}

/// The first tick at which `due` has come.
const fn tick_of(due: Timestamp) -> u64 {
    due.micros().div_ceil(SLOT_MICROS)
}

/// When `tick` is.
const fn time_of(tick: u64) -> Timestamp {
    Timestamp::from_micros(tick.saturating_mul(SLOT_MICROS))
}

/// What an entry keeps of its tick: together with the present it tells the whole.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
const fn low(tick: u64) -> u32 {
    tick as u32
}

/// The digit of `tick` that says in which slot of `level` it lies.
#[expect(clippy::cast_possible_truncation, reason = "masked to 12 bits")]
const fn digit(tick: u64, level: usize) -> usize {
    (tick >> (BITS as usize * level)) as usize & (SLOTS - 1)
}

/// True where a slot of `level` begins at `tick`.
const fn begins(tick: u64, level: usize) -> bool {
    tick.trailing_zeros() as usize >= BITS as usize * level
}

#[derive(Debug)]
struct Entry<T> {
    due: u32,
    item: T,
}

#[derive(Debug)]
struct Level {
    /// The first block of each slot.
    heads: Box<[u32]>,
    occupied: Occupied,
}

impl Default for Level {
    fn default() -> Self {
        Self { heads: vec![NIL; SLOTS].into_boxed_slice(), occupied: Occupied::default() }
    }
}

impl Level {
    /// Empties a slot and gives its first block.
    fn take(&mut self, slot: usize) -> u32 {
        self.occupied.clear(slot);
        self.heads.get_mut(slot).map_or(NIL, |head| std::mem::replace(head, NIL))
    }
}

/// Which slots of a level have entries: a word of summary over 64 words.
#[derive(Debug)]
struct Occupied {
    summary: u64,
    words: [u64; SLOTS / 64],
}

impl Default for Occupied {
    fn default() -> Self {
        Self { summary: 0, words: [0; SLOTS / 64] }
    }
}

impl Occupied {
    fn set(&mut self, slot: usize) {
        if let Some(word) = self.words.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
            self.summary |= 1 << (slot / 64);
        }
    }

    fn clear(&mut self, slot: usize) {
        if let Some(word) = self.words.get_mut(slot / 64) {
            *word &= !(1 << (slot % 64));
            if *word == 0 {
                self.summary &= !(1 << (slot / 64));
            }
        }
    }

    /// The first occupied slot behind `slot`; past the last one it goes on at the first, and `slot` itself
    /// comes last.
    fn first_after(&self, slot: usize) -> Option<usize> {
        let (at, bit) = (slot / 64, slot % 64);
        let rest = self.words.get(at)? & (!1 << bit);
        if rest != 0 {
            return Some(at * 64 + rest.trailing_zeros() as usize);
        }
        let later = self.summary & (!1 << at);
        let at = if later == 0 { self.summary } else { later }.trailing_zeros() as usize;
        Some(at * 64 + self.words.get(at)?.trailing_zeros() as usize)
    }
}

/// Blocks of entries, each in the chain of one slot or free. Chains of full blocks need no room to grow,
/// where a list per slot would hold up to twice what is in it.
#[derive(Debug)]
struct Blocks<T> {
    blocks: Vec<Block<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Block<T> {
    entries: Vec<Entry<T>>,
    next: u32,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Blocks<T> {
    /// Adds an entry to the chain that starts at `head`; gives the chain's new head.
    fn push(&mut self, head: u32, entry: Entry<T>) -> u32 {
        match self.blocks.get_mut(head as usize) {
            Some(block) if block.entries.len() < BLOCK => {
                block.entries.push(entry);
                head
            }
            _ => self.start(head, entry),
        }
    }

    /// A block with one entry, in front of `next`.
    fn start(&mut self, next: u32, entry: Entry<T>) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            if self.blocks.len() == self.blocks.capacity() {
                // By an eighth: twice as many would be half empty.
                self.blocks.reserve_exact((self.blocks.len() / 8).max(8));
            }
            self.blocks.push(Block { entries: Vec::new(), next: NIL });
            u32::try_from(self.blocks.len() - 1).unwrap_or(NIL)
        });
        if let Some(block) = self.blocks.get_mut(at as usize) {
            block.next = next;
            block.entries.reserve_exact(BLOCK);
            block.entries.push(entry);
        }
        at
    }

    /// Takes a block's entries out; gives the block that follows it in its chain.
    fn detach(&mut self, at: u32) -> (Vec<Entry<T>>, u32) {
        self.blocks.get_mut(at as usize).map_or((Vec::new(), NIL), |block| {
            (std::mem::take(&mut block.entries), std::mem::replace(&mut block.next, NIL))
        })
    }

    /// Frees a block. Its memory is kept for the next one while few are free: a wheel that once was full
    /// gives back what it no longer needs.
    fn release(&mut self, at: u32, emptied: Vec<Entry<T>>) {
        let used = self.blocks.len() - self.free.len();
        if self.free.len() < 64 + used / 4
            && let Some(block) = self.blocks.get_mut(at as usize)
        {
            block.entries = emptied;
        }
        self.free.push(at);
    }
}

#[cfg(test)]
mod tests;
