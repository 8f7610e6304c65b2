//! Connections to a source that does what each test says.

use tokio::net::TcpListener;

use super::*;
use crate::scripted::Scripted;

const SHORT: SubscribeSettings = SubscribeSettings {
    connect: Duration::from_secs(5),
    silence: Duration::from_millis(20),
    answer: Duration::from_millis(20),
    message: Duration::from_millis(200),
};

#[tokio::test]
async fn messages_come_in_order_and_the_cursor_is_asked_for() {
    let source = Scripted::start().await;
    let settings = SubscribeSettings::default();
    let endpoint = source.endpoint();
    let (accepted, subscription) = tokio::join!(
        source.accept(),
        Subscription::connect(&endpoint, Some(7), settings)
    );
    let (mut accepted, mut subscription) = (accepted, subscription.expect("connected"));
    assert_eq!(accepted.cursor, Some(7));
    for message in ["one", "two"] {
        accepted.send(message).await;
        assert_eq!(subscription.next().await.expect("sent"), message);
    }
    let close = tokio::spawn(accepted.close(1008));
    let ended = subscription.next().await.expect_err("closed");
    assert!(
        matches!(ended, Disconnect::Closed { code: 1008 }),
        "{ended}"
    );
    drop(subscription);
    close.await.expect("no panic");
}

#[tokio::test]
async fn a_status_is_told_with_its_wish() {
    let source = Scripted::start().await;
    let answers = [
        (
            "429 Too Many Requests\r\nRetry-After: 7",
            "rate_limited",
            Some(7),
        ),
        ("503 Service Unavailable", "server_error", None),
        ("405 Method Not Allowed", "refused", None),
        ("426 Upgrade Required", "refused", None),
    ];
    for (answer, reason, wish) in answers {
        let endpoint = source.endpoint();
        let (_, subscription) = tokio::join!(
            source.refuse(answer),
            Subscription::connect(&endpoint, None, SHORT)
        );
        let error = subscription.expect_err("refused");
        assert_eq!(error.reason(), reason);
        let ConnectError::Status { retry, .. } = error else {
            panic!("{error}")
        };
        let wish = wish.map(|seconds| Retry::After(Duration::from_secs(seconds)));
        assert_eq!(retry, wish, "{answer}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_unreachable() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = gone.local_addr().expect("bound");
    drop(gone);
    for scheme in ["ws", "wss"] {
        let endpoint = Endpoint::parse(&format!("{scheme}://{address}")).expect("a source");
        let error = Subscription::connect(&endpoint, None, SHORT).await;
        assert_eq!(error.expect_err("nobody").reason(), "unreachable");
    }
}

#[tokio::test]
async fn a_source_without_tls_is_told() {
    let source = Scripted::start().await;
    let address = source.name().replace("http://", "wss://");
    let endpoint = Endpoint::parse(&address).expect("a source");
    let connect = Subscription::connect(&endpoint, None, SHORT);
    let serve = async {
        // A server that takes a greeting for a bad request.
        source.refuse_at_once().await;
    };
    let (error, ()) = tokio::join!(connect, serve);
    assert_eq!(error.expect_err("no TLS").reason(), "unreachable");
}

#[tokio::test]
async fn a_source_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let endpoint = Endpoint::parse(&format!("ws://{address}")).expect("a source");
    let settings = SubscribeSettings {
        connect: Duration::from_millis(20),
        ..SHORT
    };
    let error = Subscription::connect(&endpoint, None, settings).await;
    assert!(matches!(error, Err(ConnectError::Timeout)));
}

#[tokio::test]
async fn silence_is_asked_about_and_then_ends_the_connection() {
    let (accepted, mut subscription) = connected().await;
    // Nobody reads on the other side, so nobody answers.
    let ended = subscription.next().await.expect_err("silent");
    assert!(matches!(ended, Disconnect::Silent), "{ended}");
    drop(accepted);
}

#[tokio::test]
async fn a_source_that_only_answers_is_given_up_later() {
    let (accepted, mut subscription) = connected().await;
    let answers = tokio::spawn(accepted.ended());
    let ended = subscription.next().await.expect_err("idle");
    assert!(matches!(ended, Disconnect::Idle), "{ended}");
    drop(subscription);
    answers.await.expect("no panic");
}

#[tokio::test]
async fn time_in_which_nobody_reads_is_no_silence() {
    let (mut accepted, mut subscription) = connected().await;
    accepted.send("one").await;
    let long = SHORT.message * 2;
    subscription.heard -= long;
    subscription.told -= long;
    subscription.left -= long;
    assert_eq!(subscription.next().await.expect("there"), "one");
}

#[tokio::test]
async fn what_is_no_binary_message_ends_the_connection() {
    let (mut accepted, mut subscription) = connected().await;
    let text = Message::Text("frame".into());
    accepted.socket.send(text).await.expect("sent");
    let ended = subscription.next().await.expect_err("text");
    assert!(matches!(ended, Disconnect::Text), "{ended}");

    let (mut accepted, mut subscription) = connected().await;
    let send = tokio::spawn(async move {
        // The other side may hang up before it has all.
        let long = Message::Binary(vec![0; MESSAGE_BYTES_MAX + 1].into());
        let _ = accepted.socket.send(long).await;
    });
    let ended = subscription.next().await.expect_err("too long");
    assert!(matches!(ended, Disconnect::TooLong), "{ended}");
    drop(subscription);
    send.await.expect("no panic");
}

async fn connected() -> (crate::scripted::Accepted, Subscription) {
    let source = Scripted::start().await;
    let endpoint = source.endpoint();
    let (accepted, subscription) = tokio::join!(
        source.accept(),
        Subscription::connect(&endpoint, None, SHORT)
    );
    (accepted, subscription.expect("connected"))
}
