//! Which fault meets which request: rules first, then chance.

use object_store::path::Path;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Fault;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A PUT.
    Put,
    /// A GET, of ranges or of metadata too.
    Get,
    /// A LIST of all below a prefix.
    List,
    /// A LIST of one level.
    ListWithDelimiter,
    /// A DELETE of one object.
    Delete,
}

/// A fault for the requests of one kind below a prefix.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which kind.
    pub operation: Operation,
    /// How the path begins, as text: `wal/` or a whole path. Empty fits all.
    pub prefix: String,
    /// What happens.
    pub fault: Fault,
    /// How many requests that fit are let through before.
    pub skip: u32,
    /// How many it happens to then.
    pub times: u32,
}

impl Rule {
    /// `fault` for the next request of this kind below `prefix`.
    pub fn next(operation: Operation, prefix: impl Into<String>, fault: Fault) -> Self {
        Self {
            operation,
            prefix: prefix.into(),
            fault,
            skip: 0,
            times: 1,
        }
    }

    /// The same, after so many requests that fit.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// The same, for so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }
}

/// How likely each fault is, from 0 to 1 a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// [`Fault::Before`], of any request.
    pub before: f64,
    /// [`Fault::After`], of PUTs.
    pub after: f64,
    /// [`Fault::Conflict`], of PUTs.
    pub conflict: f64,
    /// [`Fault::Late`], of PUTs, by 1 to 8 requests.
    pub late: f64,
    /// [`Fault::Truncate`], of GETs.
    pub truncate: f64,
    /// How often, at most, other tasks of the runtime come first before a request: not a fault, and no rate.
    pub yields: u32,
}

#[derive(Default)]
pub(super) struct Schedule {
    pub(super) rules: Vec<Rule>,
    chance: Option<(StdRng, Rates)>,
}

impl Schedule {
    pub(super) fn seed(&mut self, seed: u64, rates: Rates) {
        self.chance = Some((StdRng::seed_from_u64(seed), rates));
    }

    /// How often other tasks come first before the next request.
    pub(super) fn yields(&mut self) -> u32 {
        match &mut self.chance {
            Some((random, rates)) => random.random_range(0..=rates.yields),
            None => 0,
        }
    }

    pub(super) fn next(&mut self, operation: Operation, path: &Path) -> Option<Fault> {
        for rule in &mut self.rules {
            if rule.operation != operation
                || rule.times == 0
                || !path.as_ref().starts_with(&rule.prefix)
            {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            return Some(rule.fault.clone());
        }
        let (random, rates) = self.chance.as_mut()?;
        draw(random, *rates, operation)
    }
}

/// One draw a request, whatever its kind: a request more does not change what later ones meet by much.
fn draw(random: &mut StdRng, rates: Rates, operation: Operation) -> Option<Fault> {
    let mut chance: f64 = random.random();
    let late_by = random.random_range(1..=8);
    let is_put = operation == Operation::Put;
    let is_get = operation == Operation::Get;
    let faults = [
        (rates.before, true, Fault::Before),
        (rates.after, is_put, Fault::After),
        (rates.conflict, is_put, Fault::Conflict),
        (rates.late, is_put, Fault::Late(late_by)),
        (rates.truncate, is_get, Fault::Truncate),
    ];
    for (rate, fits, fault) in faults {
        if !fits {
            continue;
        }
        if chance < rate {
            return Some(fault);
        }
        chance -= rate;
    }
    None
}
