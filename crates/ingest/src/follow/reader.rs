//! Reads a connection into windows.
//!
//! A window is handed over as soon as whoever takes it is ready and the socket has nothing more at hand: at a quiet
//! source it is one frame, at a busy one it grows up to its limit. A full window that nobody takes stops the reading,
//! so the socket fills and the source is slowed: nothing is held but that one window.

use std::sync::Arc;

use crdt::Micros;
use crdt::storage::Clock;
use tokio::sync::mpsc;

use crate::subscribe::{Disconnect, Subscription};
use crate::window::{Decoded, Window, decode, overlapped};

/// What comes of a connection.
pub(super) enum Read<W> {
    Window(W),
    Ended(Disconnect),
}

/// The decoded windows of a connection, the last item telling why it ended. It is closed when the receiver is dropped.
pub(super) fn windows(
    subscription: Subscription,
    clock: Arc<dyn Clock>,
    first: u64,
) -> mpsc::Receiver<Read<(Micros, Vec<Decoded>)>> {
    let (give, given) = mpsc::channel(1);
    tokio::spawn(read(subscription, clock, first, give));
    overlapped(given, async |read| match read {
        Read::Window(window) => {
            let window: Window = window;
            Read::Window((window.at, decode(window).await))
        }
        Read::Ended(why) => Read::Ended(why),
    })
}

async fn read(
    mut subscription: Subscription,
    clock: Arc<dyn Clock>,
    first: u64,
    give: mpsc::Sender<Read<Window>>,
) {
    let mut window = Window::behind(first);
    let why = loop {
        tokio::select! {
            biased;
            frame = subscription.next(), if !window.is_full() => match frame {
                Ok(frame) => {
                    window.push(frame);
                    window.at = Micros(clock.now_us());
                }
                Err(why) => break why,
            },
            permit = give.reserve(), if !window.is_empty() => {
                let Ok(permit) = permit else { return };
                let next = Window::behind(window.end());
                permit.send(Read::Window(std::mem::replace(&mut window, next)));
            }
            () = give.closed() => return,
        }
    };
    if !window.is_empty() && give.send(Read::Window(window)).await.is_err() {
        return;
    }
    // Nobody is left to tell if this fails: the follower has stopped.
    let _ = give.send(Read::Ended(why)).await;
}
