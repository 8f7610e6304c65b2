//! Runs one instance under `stateright`'s breadth-first checker.

use super::instance::Instance;
use super::protocol::{INVARIANTS, Protocol};
use super::situation::Situation;
use super::state::Action;
use super::step::{SafetyStep, Violation};
use stateright::{Checker, HasDiscoveries, Model};
use std::fmt;
use std::time::{Duration, Instant};

/// What an exploration found.
#[derive(Debug)]
pub(super) struct Outcome {
    pub states: usize,
    pub depth: usize,
    pub elapsed: Duration,
    pub broken: Option<Trace>,
    /// Situations that the instance must bring about, and did not.
    pub missing: Vec<Situation>,
}

/// A shortest behaviour that ends in a violation.
#[derive(Debug)]
pub(super) struct Trace {
    pub violation: Violation,
    pub actions: Vec<Action>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} steps: {}", self.actions.len(), self.violation)?;
        for (number, action) in (1..).zip(&self.actions) {
            writeln!(f, "    {number:>2}. {action:?}")?;
        }
        Ok(())
    }
}

/// Explores `instance` whole, or until the first violation. One thread: so a trace is a shortest one, and always the same.
pub(super) fn explore(instance: Instance, off: Option<SafetyStep>) -> Outcome {
    let protocol = Protocol::new(instance, off);
    let started = Instant::now();
    let checker = protocol
        .clone()
        .checker()
        .threads(1)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let broken = checker.discovery(INVARIANTS).map(|path| {
        let violation = protocol
            .judge(path.last_state())
            .expect("the last state of a trace breaks an invariant");
        Trace {
            violation,
            actions: path.into_actions(),
        }
    });
    let mut missing = protocol.instance.must_occur;
    missing.retain(|situation| checker.discovery(situation.property().name).is_none());
    Outcome {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        elapsed: started.elapsed(),
        broken,
        missing,
    }
}
