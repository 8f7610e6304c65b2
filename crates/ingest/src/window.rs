//! A window of a source's frames, decoded on all cores.
//!
//! A window is small enough to hold and large enough to keep every core busy. It need not be full: one that is handed
//! over holds what was there. One window is decoded while the one before it is verified: see [`overlapped`].

use std::thread::available_parallelism;

use atproto::{Frame, FrameError, datetime};
use bytes::Bytes;
use crdt::Micros;
use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use crate::repo::{Arrival, hash_of};

/// How many frames a window holds at most.
pub(crate) const WINDOW_FRAMES_MAX: usize = 1024;

/// From how many bytes on a window is full.
pub(crate) const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// How many frames are worth a task of their own: 32 take about a millisecond.
const CHUNK_FRAMES_MIN: usize = 32;

/// Frames that follow each other in a source.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The place of the first, from 0.
    pub(crate) first: u64,
    /// When the last one arrived.
    pub(crate) at: Micros,
    frames: Vec<Bytes>,
    bytes: usize,
}

impl Window {
    /// An empty window, whose first frame will be the one at `first`.
    pub(crate) fn behind(first: u64) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push(frame);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() >= WINDOW_FRAMES_MAX || self.bytes >= WINDOW_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The place of the frame behind the last one.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }
}

/// A frame and what is known of it besides, or why it is none.
pub(crate) type Decoded = (Arrival, Result<Frame, FrameError>);

/// Decodes a window's frames on all cores, in their order.
pub(crate) async fn decode(window: Window) -> Vec<Decoded> {
    let at = window.at;
    let chunk = window.frames.len().div_ceil(cores()).max(CHUNK_FRAMES_MIN);
    let mut tasks = Vec::new();
    let mut first = window.first;
    let mut frames = window.frames.into_iter();
    loop {
        let chunk: Vec<Bytes> = frames.by_ref().take(chunk).collect();
        if chunk.is_empty() {
            break;
        }
        let start = first;
        first += chunk.len() as u64;
        tasks.push(tokio::task::spawn_blocking(move || {
            let decode = |(index, bytes): (u64, Bytes)| {
                let frame = Frame::decode(&bytes);
                let arrival = Arrival {
                    index,
                    seq: frame.as_ref().ok().and_then(seq_of),
                    bytes: bytes.len() as u64,
                    hash: hash_of(&bytes),
                    at,
                };
                (arrival, frame)
            };
            (start..).zip(chunk).map(decode).collect::<Vec<_>>()
        }));
    }
    joined(tasks).await.into_iter().flatten().collect()
}

/// The number that its source gave a frame.
fn seq_of(frame: &Frame) -> Option<i64> {
    match frame {
        Frame::Commit(frame) => Some(frame.seq),
        Frame::Sync(frame) => Some(frame.seq),
        Frame::Identity(frame) => Some(frame.seq),
        Frame::Account(frame) => Some(frame.seq),
        Frame::Info { .. } | Frame::Error { .. } | Frame::Unknown { .. } => None,
    }
}

/// When the last frame of a window says that it was made.
pub(crate) fn time_of(window: &[Decoded]) -> Option<Micros> {
    let time = window.iter().rev().find_map(|(_, frame)| match frame {
        Ok(Frame::Commit(frame)) => Some(&frame.time),
        Ok(Frame::Sync(frame)) => Some(&frame.time),
        Ok(Frame::Identity(frame)) => Some(&frame.time),
        Ok(Frame::Account(frame)) => Some(&frame.time),
        _ => None,
    });
    datetime::parse(time?).ok().map(Micros)
}

/// Puts `step` between a giver and a taker, so that it works on the next item while the taker has the one before.
///
/// At most two items are under way in it. It ends when the giver does, or when the taker is dropped.
pub(crate) fn overlapped<T, U, F>(
    mut given: mpsc::Receiver<T>,
    step: impl Fn(T) -> F + Send + 'static,
) -> mpsc::Receiver<U>
where
    T: Send + 'static,
    U: Send + 'static,
    F: Future<Output = U> + Send,
{
    let (give, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let item = tokio::select! {
                item = given.recv() => item,
                () = give.closed() => return,
            };
            let Some(item) = item else { return };
            if give.send(step(item).await).await.is_err() {
                return;
            }
        }
    });
    taken
}

/// The results of blocking tasks, in their order; a panic in one goes on here.
pub(crate) async fn joined<T>(tasks: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    match try_join_all(tasks).await {
        Ok(results) => results,
        Err(error) => broken_off(error).await,
    }
}

/// Goes on with the panic that ended a task. One that was cancelled before it began tells that the runtime is shutting
/// down: whoever waits for it is about to be dropped too, and has nothing to go on with.
pub(crate) async fn broken_off<T>(error: JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => std::future::pending().await,
    }
}

/// How many tasks keep the machine busy.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}
