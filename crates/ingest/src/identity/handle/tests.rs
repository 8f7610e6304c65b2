//! Handles by name servers that say what a test says, and by a small resolver.

use std::collections::HashMap;

use serde_json::json;
use testkit::repo::{Account, Curve};
use testkit::web::{Reply, Web};

use super::*;

const OTHER: &str = "did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

#[tokio::test]
async fn dns_says_where_a_handle_leads() {
    let document = document();
    let own = format!("did={}", document.id);
    for (texts, expected) in [
        (vec![own.as_str()], verified(&document)),
        (vec!["v=spf1", &own, &own], verified(&document)),
        (vec![OTHER], HandleCheck::Invalid),
        (vec![&own, OTHER], HandleCheck::Invalid),
    ] {
        let handles = Handles::with_txt(closed(), None, FakeTxt::at(&document, &texts));
        assert_eq!(handles.check(&document).await, expected, "{texts:?}");
    }
}

#[tokio::test]
async fn that_nobody_answers_is_not_that_somebody_disagrees() {
    let document = document();
    // The host of the handle can't be asked: its address is private.
    let handles = Handles::with_txt(closed(), None, FakeTxt::at(&document, &[]));
    assert_eq!(handles.check(&document).await, HandleCheck::Invalid);
    let handles = Handles::with_txt(closed(), None, Arc::new(NoTxt));
    assert_eq!(handles.check(&document).await, HandleCheck::Unknown);
}

#[tokio::test]
async fn a_document_without_a_handle_has_no_valid_one() {
    let mut document = document();
    let txt = FakeTxt::at(&document, &[&format!("did={}", document.id)]);
    let handles = Handles::with_txt(closed(), None, txt);
    document.handle = None;
    assert_eq!(handles.check(&document).await, HandleCheck::Invalid);
    for name in ["a.local", "b.onion", "c.invalid", "d.LOCALHOST"] {
        document.handle = name.parse().ok();
        assert_eq!(
            handles.check(&document).await,
            HandleCheck::Invalid,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_resolver_of_the_operator_has_the_only_word() {
    let document = document();
    let own = document.id.to_string();
    for (reply, expected) in [
        (Reply::json(&json!({"did": own})), verified(&document)),
        (
            Reply::json(&json!({"did": "did:plc:x"})),
            HandleCheck::Invalid,
        ),
        (Reply::error(400, "InvalidRequest"), HandleCheck::Invalid),
        (Reply::status(502), HandleCheck::Unknown),
        (Reply::bytes("no JSON"), HandleCheck::Unknown),
    ] {
        let web = Web::serve(move |_| reply.clone()).await;
        let url = web.url("/").parse().expect("a URL");
        let txt = FakeTxt::at(&document, &[OTHER]);
        let handles = Handles::with_txt(closed(), Some(url), txt);
        assert_eq!(handles.check(&document).await, expected);
        let handle = document.handle.as_ref().expect("one");
        assert_eq!(
            web.asked(),
            [format!(
                "/xrpc/com.atproto.identity.resolveHandle?handle={handle}"
            )]
        );
    }
}

#[tokio::test]
async fn a_handle_s_own_host_is_asked_where_dns_has_nothing() {
    // It listens without TLS, so that it was reached is told by how the connection fails.
    let document = document();
    let outbound = Outbound::new(true).expect("TLS");
    let handles = Handles::with_txt(outbound, None, FakeTxt::at(&document, &[]));
    let found = handles.by_host("localhost:1").await;
    assert!(found.is_err(), "nobody listens there");
}

#[derive(Debug)]
struct FakeTxt(HashMap<String, Vec<String>>);

impl FakeTxt {
    fn at(document: &DidDocument, texts: &[&str]) -> Arc<dyn Txt> {
        let handle = document.handle.as_ref().expect("one");
        let texts = texts.iter().map(ToString::to_string).collect();
        Arc::new(Self([(format!("_atproto.{handle}."), texts)].into()))
    }
}

impl Txt for FakeTxt {
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, NoAnswer>> {
        Box::pin(async move { Ok(self.0.get(name).cloned().unwrap_or_default()) })
    }
}

/// Reaches nothing: every name is private.
fn closed() -> Outbound {
    Outbound::to_loopback_only()
}

fn document() -> DidDocument {
    let account = Account::new(1, Curve::K256);
    DidDocument::parse(&account.did_document()).expect("a document")
}

fn verified(document: &DidDocument) -> HandleCheck {
    HandleCheck::Verified(document.handle.clone().expect("one"))
}
