//! What can go wrong, and the plan of when.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::repo::{CarFlaw, Forgery};

/// What a source does to a message before it keeps it. All its readers get the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamFault {
    /// It is left out.
    Drop,
    /// It comes twice, under two numbers.
    Again,
    /// It comes behind so many later messages of other accounts.
    Hold(u16),
    /// It comes behind the next message of the same account.
    Swap,
    /// A forged commit comes before it.
    Forge(Forgery),
    /// A forged commit comes instead of it.
    Replace(Forgery),
    /// The commit says to follow another rev. Nothing covers that, so it is no forgery.
    Since,
    /// The commit does not say `prevData`, as senders older than Sync 1.1.
    NoPrevData,
    /// A `#sync` of the state after the commit comes behind it.
    Sync,
    /// A `#sync` of the state after the commit comes instead of it.
    SyncInstead,
    /// A `#sync` of the state after an earlier commit comes before it.
    SyncOld,
    /// A `#sync` that says another rev than its commit block comes before it.
    SyncForged,
    /// So many `#identity` messages, and the message itself as often, come behind it.
    Flood(u16),
    /// Commits of so many accounts that no directory knows come before it.
    Strangers(u16),
    /// A message of a kind that nobody knows comes before it.
    Novelty,
    /// It says that it was yesterday, in this word.
    Time,
}

/// What happens to a connection when a message is to be sent. The next connection gets the message whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WireFault {
    /// The WebSocket is closed with this code.
    Close(u16),
    /// The connection is cut between two messages.
    Reset,
    /// The connection is cut in the middle of the message.
    MidFrame,
    /// Nothing comes any more, no answer to a ping either, until the reader closes.
    Silence,
    /// The first half of the message comes as if it were all of it.
    Truncated,
    /// A message of bytes that are no CBOR comes before it.
    Junk,
    /// A message of more than 5 MB comes before it.
    TooLong,
    /// A text message comes before it.
    Text,
    /// It comes twice under the same number.
    Twice,
    /// The message so many places before it comes again, and then it.
    Rewind(u16),
    /// The error `ConsumerTooSlow`, and the end.
    TooSlow,
    /// A `#info` that nobody asked for comes before it.
    Info,
    /// A message with an unknown `op` comes before it.
    Op,
}

/// How a WebSocket is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
}

/// What happens to a request that is no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FetchFault {
    /// It is answered with this status and no more.
    Status(u16),
    /// It is answered with 429 and this `Retry-After`, in seconds.
    TooMany(Option<u32>),
    /// The first half of the body comes as if it were all of it.
    Truncated,
    /// The connection is cut in the middle of the body.
    Cut,
    /// No answer comes until the reader closes.
    Never,
    /// A body without an end.
    Endless,
    /// A redirect to where the request came to.
    Loop,
    /// A redirect to an address that no stranger should be able to make anybody ask.
    Inside,
    /// Status 200 with something else.
    Junk,
    /// The repository with a flaw; of `getRepo` only.
    Car(CarFlaw),
    /// Another account's repository or document.
    Other,
}

/// When which faults occur: first those of the script, then those that a seed has.
///
/// A fault that makes no sense at its turn (a forged commit where the message is no commit) waits if it is of the
/// script, and is left out if it is the seed's. At most one fault meets one message.
#[derive(Debug)]
pub struct Plan<F> {
    script: Vec<(u64, F)>,
    rates: Vec<(F, u32)>,
    random: StdRng,
    left: u64,
    turns: u64,
    counts: BTreeMap<F, u64>,
}

impl<F> Default for Plan<F> {
    fn default() -> Self {
        Self::seeded(0)
    }
}

impl<F> Plan<F> {
    /// A plan without faults; `seed` is for [`Plan::rate`].
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            script: Vec::new(),
            rates: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            left: u64::MAX,
            turns: 0,
            counts: BTreeMap::new(),
        }
    }

    /// Lets `fault` occur once, at the first turn that it fits, after `turns` others from the plan's begin.
    #[must_use]
    pub fn at(mut self, turns: u64, fault: F) -> Self {
        self.script.push((turns, fault));
        self
    }

    /// Lets `fault` occur at so many of 1,000 turns.
    #[must_use]
    pub fn rate(mut self, fault: F, per_mille: u32) -> Self {
        self.rates.push((fault, per_mille));
        self
    }

    /// Lets no more than `faults` occur by [`Plan::rate`].
    #[must_use]
    pub fn at_most(mut self, faults: u64) -> Self {
        self.left = faults;
        self
    }
}

impl<F: Copy + Ord> Plan<F> {
    /// Takes a turn: the fault of it, if one is due and `apply` makes something of it.
    pub(super) fn turn<T>(&mut self, mut apply: impl FnMut(F) -> Option<T>) -> Option<(F, T)> {
        self.turns += 1;
        let mut due = None;
        for (at, (turns, fault)) in self.script.iter().enumerate() {
            if *turns < self.turns
                && let Some(applied) = apply(*fault)
            {
                due = Some((at, *fault, applied));
                break;
            }
        }
        if let Some((at, fault, applied)) = due {
            self.script.remove(at);
            return Some(self.counted(fault, applied));
        }
        let mut drawn = None;
        for (fault, per_mille) in &self.rates {
            // Drawn for each, whatever came of the others, so that the seed alone decides.
            if self.random.random_ratio(*per_mille, 1000) && drawn.is_none() {
                drawn = Some(*fault);
            }
        }
        let fault = drawn.filter(|_| self.left > 0)?;
        let applied = apply(fault)?;
        self.left -= 1;
        Some(self.counted(fault, applied))
    }

    fn counted<T>(&mut self, fault: F, applied: T) -> (F, T) {
        *self.counts.entry(fault).or_default() += 1;
        (fault, applied)
    }

    /// Takes the place of another plan, whose counts go on.
    pub(super) fn replace(&mut self, plan: Self) {
        let counts = std::mem::take(&mut self.counts);
        *self = Self { counts, ..plan };
    }

    /// How often each fault occurred.
    pub(super) fn counts(&self) -> &BTreeMap<F, u64> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scripted_fault_waits_for_a_turn_that_it_fits() {
        let mut plan = Plan::default().at(1, 'a').at(0, 'b');
        let mut turn = |allowed: &str| {
            plan.turn(|fault| allowed.contains(fault).then_some(()))
                .map(|(fault, ())| fault)
        };
        assert_eq!(turn("a"), None);
        assert_eq!(turn(""), None);
        assert_eq!(turn("ab"), Some('a'));
        assert_eq!(turn("ab"), Some('b'));
        assert_eq!(turn("ab"), None);
        assert_eq!(plan.counts(), &BTreeMap::from([('a', 1), ('b', 1)]));
    }

    #[test]
    fn a_seed_decides_and_a_bound_ends_it() {
        let run = |seed| {
            let mut plan = Plan::seeded(seed).rate('a', 100).rate('b', 50).at_most(20);
            let mut turns = Vec::new();
            for turn in 0..1000 {
                if let Some((fault, ())) = plan.turn(|_| Some(())) {
                    turns.push((turn, fault));
                }
            }
            turns
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert_eq!(run(1).len(), 20);
    }
}
