//! Outbound requests against a server of this machine, with names that resolve as a test says.

use std::collections::HashMap;
use std::net::IpAddr;

use testkit::web::{Reply, Web};

use super::*;

/// Long enough for whatever this machine does meanwhile.
const PATIENT: Limits = Limits {
    bytes_max: 100,
    time: Duration::from_secs(60),
    idle: Duration::from_secs(60),
};

#[tokio::test]
async fn an_answer_comes_with_its_status_and_body() {
    let web = Web::serve(|path| match path {
        "/good?a=1" => Reply::bytes("hello"),
        _ => Reply::error(400, "RepoNotFound").with("retry-after", "7"),
    })
    .await;
    let outbound = open();
    let good = outbound.get(&url(&web, "/good?a=1"), PATIENT).await;
    let good = good.expect("an answer");
    assert_eq!(
        (good.status, &good.body[..], good.retry),
        (200, &b"hello"[..], None)
    );
    let bad = outbound.get(&url(&web, "/bad"), PATIENT).await;
    let bad = bad.expect("an answer");
    assert_eq!(bad.status, 400);
    assert!(bad.body.starts_with(b"{"));
    assert_eq!(bad.retry, Some(Retry::After(Duration::from_secs(7))));
}

#[tokio::test]
async fn a_name_with_private_addresses_is_refused_before_anything_is_sent() {
    let web = Web::serve(|_| Reply::bytes("secret")).await;
    let port = web.address().port();
    let outbound = guarded(&[
        ("loopback.test", &["127.0.0.1"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
        ("lan.test", &["10.0.0.1", "192.168.0.1", "fd00::1"]),
        ("metadata.test", &["169.254.169.254"]),
    ]);
    for host in [
        "loopback.test",
        "mapped.test",
        "lan.test",
        "metadata.test",
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        // Public, but given literally.
        "1.1.1.1",
    ] {
        let url = format!("http://{host}:{port}/").parse().expect("a URL");
        let error = outbound.get(&url, PATIENT).await.expect_err("refused");
        assert!(
            matches!(error, OutboundError::Forbidden { .. }),
            "{host}: {error:?}"
        );
        assert!(!error.is_transient());
    }
    assert_eq!(web.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn of_mixed_addresses_only_the_public_ones_are_tried() {
    let dns = PublicDns(fake(&[("mixed.test", &["127.0.0.1", "1.1.1.1", "::1"])]));
    let name = "mixed.test".parse().expect("a name");
    let found: Vec<SocketAddr> = dns.resolve(name).await.expect("one").collect();
    assert_eq!(found, ["1.1.1.1:0".parse().expect("an address")]);
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_not_followed() {
    let inner = Web::serve(|_| Reply::bytes("secret")).await;
    let by_address = inner.url("/");
    let by_name = format!("http://loopback.test:{}/", inner.address().port());
    let to_file = "file:///etc/passwd".to_owned();
    let outer = Web::serve(move |path| match path {
        "/address" => Reply::redirect(&by_address),
        "/name" => Reply::redirect(&by_name),
        _ => Reply::redirect(&to_file),
    })
    .await;
    let outbound = guarded(&[("loopback.test", &["127.0.0.1"])]);
    for path in ["/address", "/name"] {
        // The first URL is the operator's own; the next is not.
        let answer = outbound.get_configured(&url(&outer, path), PATIENT).await;
        let error = answer.expect_err("refused");
        assert!(
            matches!(error, OutboundError::Forbidden { .. }),
            "{path}: {error:?}"
        );
    }
    let answer = outbound
        .get_configured(&url(&outer, "/file"), PATIENT)
        .await;
    assert!(matches!(answer, Err(OutboundError::Url { .. })));
    assert_eq!(inner.asked(), Vec::<String>::new());
    assert_eq!(outer.asked(), ["/address", "/name", "/file"]);
}

#[tokio::test]
async fn redirects_are_followed_three_times() {
    let web = Web::serve(|path| match path {
        "/3" => Reply::bytes("there"),
        "/4" => Reply::redirect("/4"),
        path => {
            let step: u32 = path[1..].parse().expect("a number");
            Reply::redirect(format!("/{}", step + 1))
        }
    })
    .await;
    let outbound = open();
    let answer = outbound.get(&url(&web, "/0"), PATIENT).await;
    assert_eq!(&answer.expect("an answer").body[..], b"there");
    let error = outbound.get(&url(&web, "/4"), PATIENT).await;
    assert!(matches!(error, Err(OutboundError::Redirects)));
    assert_eq!(web.asked().len(), 8);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let web = Web::serve(|path| match path {
        "/told" => Reply::bytes(vec![0; 101]),
        "/untold" => Reply::pieces([vec![0; 60], vec![0; 60]]).endless(),
        _ => Reply::pieces([vec![0; 50], vec![0; 50]]),
    })
    .await;
    let outbound = open();
    for path in ["/told", "/untold"] {
        let error = outbound.get(&url(&web, path), PATIENT).await;
        assert!(
            matches!(error, Err(OutboundError::TooLong { bytes_max: 100 })),
            "{path}: {error:?}"
        );
    }
    let whole = outbound.get(&url(&web, "/just"), PATIENT).await;
    assert_eq!(whole.expect("an answer").body.len(), 100);
}

#[tokio::test]
async fn what_has_no_room_is_not_held() {
    let web = Web::serve(|_| Reply::pieces([vec![0; 50], vec![0; 50]])).await;
    let mut asked = Vec::new();
    let answer = open()
        .get_into(&url(&web, "/"), PATIENT, &mut |bytes| {
            asked.push(bytes);
            bytes <= 60
        })
        .await;
    assert!(matches!(answer, Err(OutboundError::NoRoom { bytes }) if bytes > 60));
    assert!(asked.is_sorted());
}

#[tokio::test]
async fn a_body_that_does_not_go_on_is_given_up() {
    let web = Web::serve(|_| Reply::pieces(["begun"]).endless()).await;
    let short = Duration::from_millis(50);
    for limits in [
        Limits {
            idle: short,
            ..PATIENT
        },
        Limits {
            time: short,
            ..PATIENT
        },
    ] {
        let error = open().get(&url(&web, "/"), limits).await;
        let error = error.expect_err("no whole answer");
        assert!(matches!(error, OutboundError::Timeout), "{error:?}");
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_may_be_there_later() {
    let port = {
        let web = Web::serve(|_| Reply::status(200)).await;
        web.address().port()
    };
    let url = format!("http://nowhere.test:{port}/")
        .parse()
        .expect("a URL");
    let error = guarded(&[]).get(&url, PATIENT).await;
    assert!(error.expect_err("nobody").is_transient());
}

#[test]
fn only_plain_urls_are_asked() {
    let outbound = guarded(&[]);
    for url in [
        "ftp://a.test/",
        "http://user@a.test/",
        "https://:pw@a.test/",
        "data:x",
    ] {
        let checked = outbound.check(&url.parse().expect("a URL"), false);
        assert!(matches!(checked, Err(OutboundError::Url { .. })), "{url}");
    }
}

#[test]
fn a_reset_is_told_from_now_on() {
    let now = Micros(1_000_000_000);
    let wait = |retry: Retry| retry.wait(now).as_secs();
    assert_eq!(wait(Retry::After(Duration::from_secs(9))), 9);
    assert_eq!(wait(Retry::At(1_030)), 30);
    assert_eq!(wait(Retry::At(10)), 0);
}

/// Every name is this machine's.
#[derive(Debug)]
pub(super) struct LoopbackDns;

impl Resolve for LoopbackDns {
    fn resolve(&self, _name: Name) -> Resolving {
        let address = SocketAddr::new([127, 0, 0, 1].into(), 0);
        Box::pin(async move { Ok(Box::new(std::iter::once(address)) as Addrs) })
    }
}

struct FakeDns(HashMap<String, Vec<IpAddr>>);

impl Resolve for FakeDns {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.0.get(name.as_str()).cloned();
        Box::pin(async move {
            let found = found.ok_or("no such name")?;
            let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

fn fake(names: &[(&str, &[&str])]) -> Arc<dyn Resolve> {
    let address = |text: &&str| text.parse().expect("an address");
    let names = names
        .iter()
        .map(|(name, found)| ((*name).to_owned(), found.iter().map(address).collect()));
    Arc::new(FakeDns(names.collect()))
}

fn guarded(names: &[(&str, &[&str])]) -> Outbound {
    Outbound::with_dns(false, fake(names)).expect("TLS")
}

fn open() -> Outbound {
    Outbound::new(true).expect("TLS")
}

fn url(web: &Web, path: &str) -> Url {
    web.url(path).parse().expect("a URL")
}
