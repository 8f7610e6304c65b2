//! The connection itself: cursors, windows, errors, closes.

use super::*;

#[tokio::test]
async fn a_reader_gets_what_is_kept_and_then_what_comes() {
    let network = network().await;
    network.run(20);
    let relay = network.relay(0);
    let kept = kept_seqs(relay);
    assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
    let mut client = Client::connect(relay, Some(0)).await.expect("connected");
    assert_eq!(client.seqs(kept.len()).await, kept);
    network.run(1);
    let next = client.seqs(1).await;
    assert_eq!(next, kept_seqs(relay)[kept.len()..][..1]);
    relay.sent_all().await;
    assert_eq!(relay.readers(), 1);
    drop(client);
    relay.connected(0).await;
}

#[tokio::test]
async fn a_cursor_is_where_a_reader_goes_on() {
    let network = network().await;
    network.run(20);
    let relay = network.relay(0);
    let kept = kept_seqs(relay);
    for (rule, skipped) in [(CursorRule::After, 8), (CursorRule::From, 7)] {
        relay.set_cursor_rule(rule);
        let mut client = Client::connect(relay, Some(kept[7]))
            .await
            .expect("connected");
        assert_eq!(client.seqs(3).await, kept[skipped..][..3]);
    }
}

#[tokio::test]
async fn a_reader_without_a_cursor_gets_what_comes() {
    let network = network().await;
    network.run(20);
    let relay = network.relay(0);
    let mut client = Client::connect(relay, None).await.expect("connected");
    relay.connected(1).await;
    let before = kept_seqs(relay).len();
    network.run(1);
    assert_eq!(client.seqs(1).await, kept_seqs(relay)[before..][..1]);
}

#[tokio::test]
async fn an_outdated_cursor_is_told_and_a_future_one_refused() {
    let network = network().await;
    network.run(20);
    let relay = network.relay(0);
    relay.keep_last(5);
    let mut client = Client::connect(relay, Some(1)).await.expect("connected");
    let Frame::Info { name, .. } = client.frame().await else {
        panic!("no info");
    };
    assert_eq!(name, "OutdatedCursor");
    assert_eq!(client.seqs(5).await, kept_seqs(relay));

    let future = Some(relay.last_seq() + 1);
    let mut client = Client::connect(relay, future).await.expect("connected");
    is_error(&mut client, "FutureCursor").await;
    relay.reset_sequence();
    network.run(1);
    let mut client = Client::connect(relay, Some(100)).await.expect("connected");
    is_error(&mut client, "FutureCursor").await;
}

#[tokio::test]
async fn a_refusal_meets_one_connection() {
    let network = network().await;
    let relay = network.relay(0);
    relay.refuse(Refusal {
        status: 429,
        retry_after_s: Some(7),
    });
    let Err(Error::Http(response)) = Client::connect(relay, None).await else {
        panic!("not refused");
    };
    assert_eq!(
        (response.status(), relay.refusals_left()),
        (429.try_into().expect("a status"), 0)
    );
    assert_eq!(response.headers()["retry-after"], "7");
    Client::connect(relay, None).await.expect("connected");
    assert_eq!(relay.requests(Endpoint::SubscribeRepos), 2);
}

#[tokio::test]
async fn extra_messages_come_before_the_honest_one() {
    for fault in [
        WireFault::Info,
        WireFault::Op,
        WireFault::Text,
        WireFault::Junk,
    ] {
        let (network, mut client) = met(fault).await;
        let extra = client.message().await.expect("open").expect("a message");
        let is_extra = match (fault, &extra) {
            (WireFault::Text, Message::Text(_)) => true,
            (WireFault::Junk, Message::Binary(bytes)) => {
                Frame::decode(bytes).is_err_and(|error| error.ends_source())
            }
            (WireFault::Info, Message::Binary(bytes)) => {
                matches!(Frame::decode(bytes), Ok(Frame::Info { .. }))
            }
            (WireFault::Op, Message::Binary(bytes)) => {
                matches!(Frame::decode(bytes), Ok(Frame::Unknown { op: 7, .. }))
            }
            _ => false,
        };
        assert!(is_extra, "{fault:?}: {extra:?}");
        assert_eq!(client.seqs(1).await, kept_seqs(network.relay(0))[1..][..1]);
        assert_eq!(network.relay(0).wire_faults()[&fault], 1);
    }
}

#[tokio::test]
async fn numbers_are_repeated_and_rewound() {
    let (network, mut client) = met(WireFault::Twice).await;
    let kept = kept_seqs(network.relay(0));
    assert_eq!(client.seqs(3).await, [kept[1], kept[1], kept[2]]);
    let (network, mut client) = met(WireFault::Rewind(1)).await;
    let kept = kept_seqs(network.relay(0));
    assert_eq!(client.seqs(3).await, [kept[0], kept[1], kept[2]]);
}

#[tokio::test]
async fn half_a_message_comes_as_if_whole() {
    let (network, mut client) = met(WireFault::Truncated).await;
    let Some(Ok(Message::Binary(bytes))) = client.message().await else {
        panic!("no message");
    };
    let whole = &network.relay(0).kept()[1];
    assert_eq!(bytes, whole.slice(..whole.len() / 2));
    assert!(Frame::decode(&bytes).is_err_and(|error| error.ends_source()));
}

#[tokio::test]
async fn connections_end_in_every_way() {
    for fault in [
        WireFault::Reset,
        WireFault::MidFrame,
        WireFault::Close(1001),
        WireFault::TooLong,
    ] {
        let (network, mut client) = met(fault).await;
        let end = client.message().await;
        match (fault, &end) {
            (WireFault::Close(_), Some(Ok(Message::Close(Some(frame))))) => {
                assert_eq!(u16::from(frame.code), 1001);
            }
            (WireFault::TooLong, Some(Ok(Message::Binary(bytes)))) => {
                assert!(Frame::decode(bytes).is_err());
            }
            (WireFault::Reset | WireFault::MidFrame, Some(Err(_))) => {}
            _ => panic!("{fault:?}: {end:?}"),
        }
        // The next connection gets the message whole.
        let kept = kept_seqs(network.relay(0));
        let again = Client::connect(network.relay(0), Some(kept[0])).await;
        assert_eq!(again.expect("connected").seqs(1).await, kept[1..][..1]);
    }
    let (_network, mut client) = met(WireFault::TooSlow).await;
    is_error(&mut client, "ConsumerTooSlow").await;
}

#[tokio::test]
async fn silence_answers_no_ping_and_ends_with_the_reader() {
    let (network, mut client) = met(WireFault::Silence).await;
    let ping = Message::Ping(vec![1].into());
    futures::SinkExt::send(&mut client.0, ping)
        .await
        .expect("sent");
    // Whatever came would come before the other end sees that this one has gone.
    let relay = network.relay(0);
    tokio::select! {
        message = client.message() => panic!("{message:?}"),
        _ = Client::connect(relay, None) => {}
    }
    relay.connected(1).await;
    drop(client);
    relay.connected(0).await;
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_off() {
    let network = network().await;
    let relay = network.relay(0);
    relay.set_lag_max(10);
    let mut client = Client::connect(relay, None).await.expect("connected");
    relay.connected(1).await;
    network.run(1);
    relay.sent_all().await;
    let first = relay.messages();
    // All at once, while nobody is sent anything: the test has one thread.
    network.run(50);
    client.seqs(usize::try_from(first).expect("few")).await;
    is_error(&mut client, "ConsumerTooSlow").await;
}

#[tokio::test]
async fn a_stopped_host_is_found_again_where_it_was() {
    let network = network().await;
    network.run(3);
    let relay = network.relay(0);
    let kept = kept_seqs(relay);
    let mut client = Client::connect(relay, Some(0)).await.expect("connected");
    client.seqs(kept.len()).await;
    relay.stop();
    assert!(!matches!(client.message().await, Some(Ok(_))));
    assert!(Client::connect(relay, Some(0)).await.is_err());
    relay.restart().await;
    let mut client = Client::connect(relay, Some(0)).await.expect("connected");
    assert_eq!(client.seqs(kept.len()).await, kept);
}

/// A reader that was sent one message, so that the next meets the fault.
async fn met(fault: WireFault) -> (FakeNetwork, Client) {
    let network = network().await;
    network.run(10);
    let relay = network.relay(0);
    relay.plan_wire(Plan::default().at(1, fault));
    let mut client = Client::connect(relay, Some(0)).await.expect("connected");
    assert_eq!(client.seqs(1).await, kept_seqs(relay)[..1]);
    (network, client)
}

async fn is_error(client: &mut Client, name: &str) {
    let frame = client.frame().await;
    assert!(
        matches!(&frame, Frame::Error { error, .. } if error == name),
        "{frame:?}"
    );
    assert!(matches!(
        client.message().await,
        Some(Ok(Message::Close(_)))
    ));
}
