//! The schedule by its own words: what starts, in which order, and when.

use super::*;
use crate::resync::Mark;

const PACE: Pace = Pace {
    running_max: 4,
    of_host_max: 2,
    host_interval: Duration::from_secs(1),
    repos_max: 6,
};
const SECOND: i64 = 1_000_000;

#[test]
fn one_fetch_answers_all_marks_that_were_there_when_it_began() {
    let mut world = World::new(PACE);
    world.mark(1, Some(5));
    assert_eq!(world.add(1, Some(5)), Added::Known);
    world.mark(1, Some(9));
    let host = world.resolve_next();
    let Some(Start::Fetch(job, _)) = world.next() else {
        panic!("a fetch");
    };
    assert_eq!((job.marks.len(), job.attempt), (2, 1));
    world.mark(1, Some(6));
    assert_eq!(world.next(), None);
    // What came while it was fetched is fetched for again; what the host is behind of waits.
    world.end(1, Ending::Synchronized(rev(7)));
    assert!(world.schedule.holds(&did(1)));
    assert_eq!(world.next(), None);
    world.pass(15 * SECOND);
    assert_eq!(world.resolve_next(), host);
    let Some(Start::Fetch(job, _)) = world.next() else {
        panic!("a fetch");
    };
    assert_eq!((job.marks.len(), job.attempt), (2, 2));
    world.end(1, Ending::Synchronized(rev(9)));
    assert_eq!((world.schedule.len(), world.schedule.running), (0, 0));
    assert!(world.schedule.hosts.len() <= 1);
}

#[test]
fn a_host_has_so_many_at_once_and_not_too_often() {
    let mut world = World::new(PACE);
    for number in 1..=4 {
        world.mark(number, None);
    }
    for _ in 1..=4 {
        world.resolve_next();
    }
    assert!(matches!(world.next(), Some(Start::Fetch(..))));
    assert_eq!(world.next(), None, "not within the interval");
    assert_eq!(world.schedule.wake_at(), Some(Micros(world.now.0 + SECOND)));
    world.pass(SECOND);
    assert!(matches!(world.next(), Some(Start::Fetch(..))));
    world.pass(SECOND);
    assert_eq!(world.next(), None, "two at once");
    assert_eq!(world.schedule.wake_at(), None);
    world.end(1, Ending::Gone);
    assert!(matches!(world.next(), Some(Start::Fetch(job, _)) if job.did == did(3)));
    // The host asks to be left alone.
    let host = Arc::<str>::from("https://host.example");
    world.end(2, Ending::Failed);
    let until = world.now.saturating_add(60 * SECOND);
    world.schedule.park(&host, until);
    world.pass(59 * SECOND);
    // What failed is looked up again, but may not ask either.
    assert!(matches!(world.next(), Some(Start::Resolve(job)) if job.did == did(2)));
    assert_eq!(world.next(), None);
    world.pass(SECOND);
    assert!(matches!(world.next(), Some(Start::Fetch(job, _)) if job.did == did(4)));
}

#[test]
fn a_slow_host_holds_up_no_other() {
    let mut world = World::new(Pace {
        running_max: 3,
        ..PACE
    });
    for number in 1..=5 {
        world.mark(number, None);
    }
    for _ in 1..=5 {
        let Some(Start::Resolve(job)) = world.next_resolve() else {
            panic!("a look-up");
        };
        let host = if job.did == did(5) {
            "https://b"
        } else {
            "https://a"
        };
        world.schedule.resolved(&job.did, &host.into());
    }
    let mut hosts = Vec::new();
    for _ in 0..3 {
        world.pass(SECOND);
        if let Some(Start::Fetch(_, host)) = world.next() {
            hosts.push(host.to_string());
        }
    }
    hosts.sort();
    assert_eq!(hosts, ["https://a", "https://a", "https://b"]);
}

#[test]
fn a_failure_waits_longer_each_time_and_is_remembered() {
    let mut last = Duration::ZERO;
    for attempt in 1..=30 {
        let wait = backoff(&did(1), attempt);
        assert!(wait >= last.min(BACKOFF_MAX));
        assert!(wait >= BACKOFF_MIN && wait <= BACKOFF_MAX + BACKOFF_MAX / 4);
        last = wait;
    }
    let waits: BTreeSet<Duration> = (0..50).map(|number| backoff(&did(number), 1)).collect();
    assert!(waits.len() > 20, "not all at once");
    // Found in the bucket after a restart.
    let mut world = World::new(PACE);
    let failed = Open {
        attempt: 3,
        step: ResyncStep::Failed,
        ..open(1, None, world.now)
    };
    world.schedule.add(failed, world.now);
    assert_eq!(world.next(), None);
    let wait = backoff(&did(1), 3);
    world.pass(micros(wait));
    assert!(matches!(world.next(), Some(Start::Resolve(job)) if job.attempt == 4));
}

#[test]
fn no_room_is_no_failure() {
    let mut world = World::new(PACE);
    world.mark(1, None);
    world.resolve_next();
    assert!(matches!(world.next(), Some(Start::Fetch(job, _)) if job.reserve == 0));
    world.end(1, Ending::NoRoom(1000));
    world.pass(2 * SECOND);
    world.resolve_next();
    assert!(matches!(
        world.next(),
        Some(Start::Fetch(job, _)) if (job.reserve, job.attempt) == (1000, 1)
    ));
}

#[test]
fn what_it_holds_is_bounded() {
    let mut world = World::new(PACE);
    for number in 0..6 {
        assert_eq!(world.add(number, None), Added::Held);
    }
    assert_eq!(world.add(6, None), Added::Full);
    assert!(!world.schedule.has_room());
    for at in 1..MARKS_MAX as u64 {
        assert_eq!(world.add(0, Some(at)), Added::Held);
    }
    assert_eq!(world.add(0, Some(1000)), Added::Full);
    assert_eq!(world.schedule.len(), 6);
}

struct World {
    schedule: Schedule,
    now: Micros,
}

impl World {
    fn new(pace: Pace) -> Self {
        Self {
            schedule: Schedule::new(pace),
            now: Micros(1_000 * SECOND),
        }
    }

    fn add(&mut self, number: u64, of: Option<u64>) -> Added {
        self.schedule.add(open(number, of, self.now), self.now)
    }

    fn mark(&mut self, number: u64, of: Option<u64>) {
        assert_eq!(self.add(number, of), Added::Held);
    }

    fn pass(&mut self, micros: i64) {
        self.now = self.now.saturating_add(micros);
    }

    fn next(&mut self) -> Option<Start> {
        self.schedule.next(self.now)
    }

    /// The next look-up; what may be fetched meanwhile is none here.
    fn next_resolve(&mut self) -> Option<Start> {
        let (at, did) = self.schedule.due.first()?.clone();
        assert!(at <= self.now);
        self.schedule.due.pop_first();
        let job = self.schedule.jobs.get_mut(&did)?;
        job.phase = Phase::Resolving(job.marks.len());
        self.schedule.running += 1;
        Some(Start::Resolve(job_of(&did, job)))
    }

    fn resolve_next(&mut self) -> Arc<str> {
        let Some(Start::Resolve(job)) = self.next_resolve() else {
            panic!("a look-up");
        };
        let host = Arc::<str>::from("https://host.example");
        self.schedule.resolved(&job.did, &host);
        host
    }

    fn end(&mut self, number: u64, ending: Ending) {
        self.schedule.ended(&did(number), &ending, self.now);
    }
}

fn open(number: u64, of: Option<u64>, at: Micros) -> Open {
    let mark = Mark {
        source: "https://relay.example".into(),
        did: did(number),
        rev: of.map(rev),
        seq: None,
        frame_hash: [0; 16],
        reason: "sync".to_owned(),
    };
    Open::new(Task::Mark(mark), at)
}

fn did(number: u64) -> Did {
    format!("did:web:host{number:03}.example")
        .parse()
        .expect("a DID")
}

fn rev(number: u64) -> Tid {
    Tid::from_value(number)
}
