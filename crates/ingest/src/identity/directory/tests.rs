//! Documents by a small directory, on a clock that stands still.

use std::sync::atomic::{AtomicU16, Ordering};

use crdt::storage::ManualClock;
use serde_json::json;
use testkit::repo::{Account, Curve};
use testkit::web::{Reply, Web};

use super::*;
use crate::identity::IdentitySettings;

const START_US: i64 = 1_770_000_000_000_000;

#[tokio::test]
async fn a_document_is_asked_for_once_until_it_is_too_old() {
    let account = account(1);
    let world = World::new(of(&account)).await;
    let answers =
        futures::future::join_all((0..20).map(|_| world.directory.resolve(account.did())));
    for answer in answers.await {
        assert_eq!(answer.expect("a document").id, *account.did());
    }
    assert_eq!(world.asked(), 1, "twenty callers share one question");
    assert_eq!(
        world
            .directory
            .at_hand(account.did())
            .await
            .map(|document| document.id.clone()),
        Some(account.did().clone())
    );
    world.pass(Duration::from_secs(24 * 3600 - 1));
    world
        .directory
        .resolve(account.did())
        .await
        .expect("at hand");
    assert_eq!(world.asked(), 1);
    world.pass(Duration::from_secs(1));
    world.directory.resolve(account.did()).await.expect("anew");
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_refresh_asks_a_few_times_at_once_and_then_once_a_minute() {
    let account = account(1);
    let world = World::new(of(&account)).await;
    let at_once = QUESTIONS_AT_ONCE as usize;
    for allowed in at_once..at_once + 3 {
        for _ in 0..10 {
            let refreshed = world.directory.refresh(account.did()).await;
            refreshed.expect("a document");
        }
        assert_eq!(world.asked(), allowed);
        world.pass(REFRESH_INTERVAL);
    }
}

#[tokio::test]
async fn a_renewal_waits_for_its_turn_unless_somebody_asked_since_the_change() {
    let account = account(1);
    let world = World::new(of(&account)).await;
    for _ in 0..QUESTIONS_AT_ONCE {
        let refreshed = world.directory.refresh(account.did()).await;
        refreshed.expect("a document");
    }
    let asked = world.asked();
    let renewed = world.directory.renew(account.did()).await;
    renewed.expect("asked for after whatever changed");
    assert_eq!(world.asked(), asked);
    // The clock passes what it waits for.
    world.directory.forget(account.did());
    let renewed = world.directory.renew(account.did()).await;
    renewed.expect("a document");
    assert_eq!(world.asked(), asked + 1);
}

#[tokio::test]
async fn what_is_forgotten_is_asked_for_again_but_not_without_end() {
    let account = account(1);
    let world = World::new(of(&account)).await;
    let at_once = QUESTIONS_AT_ONCE as usize;
    for allowed in at_once..at_once + 3 {
        for _ in 0..10 {
            world.directory.forget(account.did());
            assert_eq!(world.directory.at_hand(account.did()).await, None);
            let resolved = world.directory.resolve(account.did()).await;
            resolved.expect("new, or still good");
        }
        assert_eq!(world.asked(), allowed);
        world.pass(REFRESH_INTERVAL);
    }
}

#[tokio::test]
async fn a_tombstone_and_a_lack_are_final_and_remembered() {
    for (status, error) in [
        (410, ResolveError::Tombstoned),
        (404, ResolveError::NotFound),
        (403, ResolveError::Refused),
    ] {
        let world = World::new(move |_| Reply::status(status)).await;
        let account = account(1);
        for _ in 0..3 {
            assert_eq!(world.directory.resolve(account.did()).await, Err(error));
        }
        assert!(!error.is_transient());
        assert_eq!(world.asked(), 1, "{status}");
        world.pass(FINAL_TTL);
        assert_eq!(world.directory.resolve(account.did()).await, Err(error));
        assert_eq!(world.asked(), 2, "{status}");
    }
}

#[tokio::test]
async fn while_the_directory_is_away_what_it_said_last_stays() {
    let account = account(1);
    let status = Arc::new(AtomicU16::new(200));
    let (said, document) = (Arc::clone(&status), account.did_document());
    let world = World::new(move |_| match said.load(Ordering::SeqCst) {
        200 => Reply::json(&document),
        status => Reply::status(status),
    })
    .await;
    let document = world
        .directory
        .resolve(account.did())
        .await
        .expect("a document");
    status.store(502, Ordering::SeqCst);
    world.pass(Duration::from_secs(25 * 3600));
    let stale = world.directory.resolve(account.did()).await;
    assert_eq!(stale.as_ref(), Ok(&document));
    // Who has reason to doubt it is told.
    world.pass(REFRESH_INTERVAL);
    let refreshed = world.directory.refresh(account.did()).await;
    assert_eq!(refreshed, Err(ResolveError::Unavailable));
    let unknown = world.directory.resolve(self::account(2).did()).await;
    assert_eq!(unknown, Err(ResolveError::Unavailable));
    assert!(ResolveError::Unavailable.is_transient());
    // A tombstone ends it.
    status.store(410, Ordering::SeqCst);
    world.pass(REFRESH_INTERVAL);
    let gone = world.directory.resolve(account.did()).await;
    assert_eq!(gone, Err(ResolveError::Tombstoned));
}

#[tokio::test]
async fn a_directory_that_has_enough_is_left_alone() {
    let world = World::new(|_| Reply::status(429).with("retry-after", "40")).await;
    for seed in 0..5 {
        let answer = world.directory.resolve(account(seed).did()).await;
        assert_eq!(answer, Err(ResolveError::Unavailable));
    }
    assert_eq!(world.asked(), 1);
    world.pass(Duration::from_secs(40));
    let answer = world.directory.resolve(account(9).did()).await;
    assert_eq!(answer, Err(ResolveError::Unavailable));
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn another_did_s_document_is_no_answer() {
    let other = account(2).did_document();
    let answers: [(Reply, ResolveError); 4] = [
        (Reply::json(&other), ResolveError::OtherDid),
        (Reply::json(&json!([])), ResolveError::NoDocument),
        (Reply::bytes("<html>"), ResolveError::NoDocument),
        (Reply::bytes(vec![b' '; 2 << 20]), ResolveError::Refused),
    ];
    for (reply, error) in answers {
        let world = World::new(move |_| reply.clone()).await;
        let answer = world.directory.resolve(account(1).did()).await;
        assert_eq!(answer, Err(error));
    }
}

#[tokio::test]
async fn a_did_that_its_method_does_not_have_is_not_asked_for() {
    let world = World::new(|_| Reply::status(200)).await;
    for (did, error) in [
        ("did:plc:short", ResolveError::Malformed),
        (
            "did:plc:..%2F..%2F..%2Fetc%2Fpasswd.x",
            ResolveError::Malformed,
        ),
        ("did:plc:UPPERCASE34567234567234a", ResolveError::Malformed),
        ("did:web:a.example:user:bob", ResolveError::Malformed),
        ("did:web:a.example%3A8080", ResolveError::Malformed),
        ("did:web:localhost", ResolveError::Malformed),
        ("did:key:zabc", ResolveError::UnknownMethod),
    ] {
        let did = did.parse().expect("a DID");
        assert_eq!(world.directory.resolve(&did).await, Err(error), "{did}");
    }
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn a_did_web_is_told_by_its_own_host() {
    let port = Arc::new(AtomicU16::new(0));
    let of = Arc::clone(&port);
    let web = Web::serve(move |path| match path {
        "/.well-known/did.json" => {
            let port = of.load(Ordering::SeqCst);
            Reply::json(&json!({"id": format!("did:web:localhost%3A{port}")}))
        }
        _ => Reply::status(404),
    })
    .await;
    port.store(web.address().port(), Ordering::SeqCst);
    let did: Did = format!("did:web:localhost%3A{}", web.address().port())
        .parse()
        .expect("a DID");
    let mut world = World::new(|_| Reply::status(500)).await;
    let document = world.directory.resolve(&did).await.expect("a document");
    assert_eq!(document.id, did);
    let told = world.told.try_recv().expect("told");
    assert_eq!(
        *told.source,
        *format!("http://localhost:{}", web.address().port())
    );
    assert_eq!(web.asked(), ["/.well-known/did.json"]);
    assert_eq!(world.asked(), 0, "the PLC directory has no say");
}

#[tokio::test]
async fn each_new_document_is_told_with_its_directory() {
    let account = account(1);
    let mut world = World::new(of(&account)).await;
    world
        .directory
        .resolve(account.did())
        .await
        .expect("a document");
    world
        .directory
        .resolve(account.did())
        .await
        .expect("at hand");
    let told = world.told.try_recv().expect("told");
    assert_eq!(told.document.id, *account.did());
    assert_eq!(*told.source, *world.web.url(""));
    assert_eq!(told.at, Micros(START_US));
    assert!(world.told.try_recv().is_err(), "told once");
    // Asked again in the same microsecond, it is later all the same.
    let refreshed = world.directory.refresh(account.did()).await;
    refreshed.expect("a document");
    let told = world.told.try_recv().expect("told");
    assert_eq!(told.at, Micros(START_US + 1));
}

struct World {
    web: Web,
    clock: Arc<ManualClock>,
    directory: Directory,
    told: mpsc::Receiver<Told>,
}

impl World {
    async fn new(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let web = Web::serve(answer).await;
        let clock = Arc::new(ManualClock::new(START_US));
        let settings = IdentitySettings::of(web.url("/").parse().expect("a URL"));
        let outbound = Outbound::new(true).expect("TLS");
        let clock_of = Arc::clone(&clock) as Arc<dyn Clock>;
        let (directory, told) = Directory::new(outbound, clock_of, &settings);
        Self {
            web,
            clock,
            directory,
            told,
        }
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn asked(&self) -> usize {
        self.web.asked().len()
    }
}

/// A directory that knows one account.
fn of(account: &Account) -> impl Fn(&str) -> Reply + Send + Sync + 'static {
    let (path, document) = (format!("/{}", account.did()), account.did_document());
    move |asked| {
        if asked == path {
            Reply::json(&document)
        } else {
            Reply::status(404)
        }
    }
}

fn account(seed: u64) -> Account {
    Account::new(seed, Curve::K256)
}
