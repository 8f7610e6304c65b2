//! A proxy between one process and the store: it knows when a PUT is in flight, and can stop it there.
//!
//! It reads just enough of HTTP/1.1 to tell requests apart (a head, then as many bytes as `content-length` says) and
//! changes nothing, so signatures stay valid. Answers are passed on as they come. Who is killed while its PUT is
//! stopped here has a PUT in flight by construction, not by luck.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long something that has to happen may take. It is never waited out when all is well.
const WAIT_MAX: Duration = Duration::from_secs(90);

/// Longer than the head of any request that we make.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Where on its way a PUT is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// The store has got half of its bytes, and will never get the rest.
    Half,
    /// The store has got none of its bytes, and will get all of them when the sender is dead.
    Late,
    /// The store has done it; the answer will never arrive.
    Answered,
}

/// Which PUTs are meant, by the folder that they go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prey {
    /// Log objects.
    Log,
    /// Manifests.
    Manifest,
    /// What a manifest will name: segments, packs, parts, marks.
    Named,
}

impl Prey {
    fn is_at(self, path: &str) -> bool {
        let folders: &[&str] = match self {
            Prey::Log => &["/wal/"],
            Prey::Manifest => &["/manifest/"],
            Prey::Named => &["/tables/", "/system/"],
        };
        folders.iter().any(|folder| path.contains(folder))
    }
}

/// Stops one PUT.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trap {
    /// Which kind.
    pub(crate) prey: Prey,
    /// Where on its way.
    pub(crate) moment: Moment,
    /// How many of the kind pass first.
    pub(crate) passing: usize,
}

/// The proxy of one process, and of those that take its place.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    trap: Option<Trap>,
    /// The path of the PUT that is in the trap.
    caught: Option<String>,
    /// Whether the trap's hold on it is over.
    is_let_go: bool,
    /// The store's status for the PUT that was in the trap.
    status: Option<String>,
    /// Whether requests wait.
    is_paused: bool,
    is_closed: bool,
    /// The paths of all PUTs that were passed on or stopped.
    puts: Vec<String>,
    /// The paths of those that the store has answered with success.
    done: Vec<String>,
}

impl State {
    fn done(&self, prey: Prey) -> usize {
        self.done.iter().filter(|path| prey.is_at(path)).count()
    }
}

impl Proxy {
    /// Listens on a port of its own, before the store at `store`.
    pub(crate) fn start(store: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            store,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.lock().is_closed {
                    break;
                }
                let shared = Arc::clone(&accepting);
                // A connection that breaks is what a process sees of a store that is down.
                std::thread::spawn(move || shared.serve(&client));
            }
        });
        Proxy { address, shared }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets a trap.
    pub(crate) fn arm(&self, trap: Trap) {
        let mut state = self.shared.lock();
        state.trap = Some(trap);
        state.caught = None;
        state.status = None;
        state.is_let_go = false;
    }

    /// Waits until a PUT is in the trap and returns its path.
    pub(crate) fn caught(&self) -> String {
        self.shared
            .wait_for("a PUT to stop", |state| state.caught.clone())
    }

    /// Ends the hold on what is in the trap: its sender is dead, or its store.
    pub(crate) fn let_go(&self) {
        self.shared.change(|state| state.is_let_go = true);
    }

    /// Waits for the store's status of what was in the trap.
    pub(crate) fn status(&self) -> String {
        self.shared
            .wait_for("the store's answer", |state| state.status.clone())
    }

    /// Lets all requests wait, or go on.
    pub(crate) fn pause(&self, is_paused: bool) {
        self.shared.change(|state| state.is_paused = is_paused);
    }

    /// How many PUTs that `prey` means the store has done, as far as it has answered.
    pub(crate) fn done(&self, prey: Prey) -> usize {
        self.shared.lock().done(prey)
    }

    /// Waits until the store has done `count` PUTs that `prey` means.
    pub(crate) fn wait_until_done(&self, prey: Prey, count: usize) {
        self.shared.wait_for("more PUTs", |state| {
            (state.done(prey) >= count).then_some(())
        });
    }

    /// The paths of all PUTs so far that `prey` means.
    pub(crate) fn puts(&self, prey: Prey) -> Vec<String> {
        let state = self.shared.lock();
        let meant = state.puts.iter().filter(|path| prey.is_at(path));
        meant.cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.is_closed = true;
            state.is_let_go = true;
            state.is_paused = false;
        });
        // Wakes the listening thread, which then ends.
        drop(TcpStream::connect(self.address));
    }
}

/// The PUT that a connection waits for the answer of, and where it is stopped. One request is under way at a time.
#[derive(Debug, Default)]
struct UnderWay(Mutex<Option<Put>>);

#[derive(Debug, Clone)]
struct Put {
    path: String,
    stopped: Option<Moment>,
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, Option<Put>> {
        self.0.lock().expect("no thread panics with the lock")
    }

    fn is_late(&self) -> bool {
        let put = self.lock();
        put.as_ref().and_then(|put| put.stopped) == Some(Moment::Late)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    fn wait_for<T>(&self, what: &str, found: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + WAIT_MAX;
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                panic!("waited in vain for {what}");
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.expect("no thread panics with the lock").0;
        }
    }

    /// Waits without an end: what ends it is the test, or its failure.
    fn wait_until(&self, is_so: impl Fn(&State) -> bool) {
        let mut state = self.lock();
        while !is_so(&state) {
            state = self.changed.wait(state).expect("no thread panics");
        }
    }

    /// Serves one connection to its end.
    fn serve(self: &Arc<Self>, client: &TcpStream) {
        let Ok(store) = TcpStream::connect(self.store) else {
            return;
        };
        let (Ok(answers), Ok(asker)) = (store.try_clone(), client.try_clone()) else {
            return;
        };
        let shared = Arc::clone(self);
        let under_way: Arc<UnderWay> = Arc::default();
        let answered = Arc::clone(&under_way);
        let answering = std::thread::spawn(move || {
            // Either side may be gone, which is what these tests are about.
            let _ = shared.pass_answers(answers, &asker, &answered);
            let _ = asker.shutdown(Shutdown::Both);
        });
        let _ = self.pass_requests(client, &store, &under_way);
        if under_way.is_late() {
            // The sender is dead; what it sent still gets its answer.
            self.wait_until(|state| state.status.is_some() || state.is_closed);
        }
        let _ = store.shutdown(Shutdown::Both);
        let _ = answering.join();
    }

    fn pass_requests(
        &self,
        mut client: &TcpStream,
        mut store: &TcpStream,
        under_way: &UnderWay,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(request) = next_request(client, &mut buffer)? {
            self.wait_until(|state| !state.is_paused);
            let put = self.take(&request);
            let stopped = put.as_ref().and_then(|put| put.stopped);
            *under_way.lock() = put;
            let Some(moment) = stopped else {
                store.write_all(&request.head)?;
                store.write_all(&request.body)?;
                continue;
            };
            let catch = || self.change(|state| state.caught = Some(request.path.clone()));
            match moment {
                Moment::Half => {
                    store.write_all(&request.head)?;
                    store.write_all(&request.body[..request.body.len() / 2])?;
                    catch();
                    self.wait_until(|state| state.is_let_go);
                    return Ok(());
                }
                Moment::Late => {
                    catch();
                    self.wait_until(|state| state.is_let_go);
                    store.write_all(&request.head)?;
                    return store.write_all(&request.body);
                }
                // The answer's side catches it.
                Moment::Answered => {
                    store.write_all(&request.head)?;
                    store.write_all(&request.body)?;
                }
            }
            // Reads on, so that the end of the process is noticed.
            let _ = client.read(&mut [0])?;
            return Ok(());
        }
        Ok(())
    }

    fn pass_answers(
        &self,
        mut store: TcpStream,
        mut client: &TcpStream,
        under_way: &UnderWay,
    ) -> io::Result<()> {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = store.read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&bytes[..count]);
            let status = text.lines().next().unwrap_or_default();
            // Taken, so that the rest of a long answer is not taken for another one's.
            let put = under_way.lock().take();
            let stopped = put.as_ref().and_then(|put| put.stopped);
            self.change(|state| {
                let Some(Put { path, stopped }) = put else {
                    return;
                };
                if status.contains(" 200 ") {
                    state.done.push(path.clone());
                }
                if stopped.is_some() {
                    state.status = Some(status.to_owned());
                }
                if stopped == Some(Moment::Answered) {
                    state.caught = Some(path);
                }
            });
            if stopped.is_some() {
                self.wait_until(|state| state.is_let_go);
                return Ok(());
            }
            client.write_all(&bytes[..count])?;
        }
    }

    /// What is known of a request that is a PUT; springs the trap if it is the one.
    fn take(&self, request: &Request) -> Option<Put> {
        if request.method != "PUT" {
            return None;
        }
        let path = request.path.clone();
        self.change(|state| {
            state.puts.push(path.clone());
            let trap = state.trap.as_mut().filter(|trap| trap.prey.is_at(&path));
            let stopped = match trap {
                None => None,
                Some(Trap { passing: 0, .. }) => state.trap.take().map(|trap| trap.moment),
                Some(trap) => {
                    trap.passing -= 1;
                    None
                }
            };
            Some(Put { path, stopped })
        })
    }
}

#[derive(Debug)]
struct Request {
    method: String,
    path: String,
    head: Vec<u8>,
    body: Vec<u8>,
}

/// The next request of a connection; none at its end. What comes after it stays in `buffer`.
fn next_request(mut client: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let mut bytes = vec![0; 64 * 1024];
    let mut more = |buffer: &mut Vec<u8>| -> io::Result<bool> {
        let count = client.read(&mut bytes)?;
        buffer.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    };
    let head_bytes = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(buffer.len() < HEAD_BYTES_MAX, "no HTTP request");
        if !more(buffer)? {
            return Ok(None);
        }
    };
    let head: Vec<u8> = buffer.drain(..head_bytes).collect();
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next(), words.next());
    let (mut length, mut is_chunked) = (0, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().expect("a length");
        }
        is_chunked |= name.eq_ignore_ascii_case("transfer-encoding");
    }
    assert!(!is_chunked, "no length: {text}");
    while buffer.len() < length {
        if !more(buffer)? {
            return Ok(None);
        }
    }
    Ok(Some(Request {
        method: method.unwrap_or_default().to_owned(),
        path: path.unwrap_or_default().to_owned(),
        body: buffer.drain(..length).collect(),
        head,
    }))
}
