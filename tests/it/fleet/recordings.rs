//! Recordings for two writers, and a plain model of what a bucket holds when all of them are in.
//!
//! The real frames and a generated network, each cut in two halves by DID, and the halves into files in the order of
//! time. The model decodes and verifies the same frames and keeps, of each path, what its highest rev says: maps and
//! sorted lists, nothing of the code that is tested but the protocol's.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use atproto::{Did, DidDocument, Frame, datetime, verify_commit, verify_sync};
use ingest::Recording;
use serde_json::Value as Json;
use testkit::repo::{Network, NetworkConfig};

/// How many generated messages a file holds.
const MESSAGES_PER_FILE: usize = 60;

/// Later than all frames.
const NOW_US: i64 = 1_800_000_000_000_000;

/// What the files of all writers add up to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The rev and the CID of each path; no CID where it was deleted.
    paths: BTreeMap<[String; 3], (String, Option<String>)>,
    /// What was said last of an account: when, with which number, and whether it is active.
    accounts: BTreeMap<String, (i64, i64, bool)>,
    events: Vec<Json>,
}

impl Expected {
    /// One line per live record of an account that is not hidden, sorted: did, collection, rkey, rev, CID.
    pub(crate) fn records(&self) -> Vec<[String; 5]> {
        let live = self.paths.iter().filter_map(|(path, (rev, cid))| {
            let [did, collection, rkey] = path.clone();
            let said = self.accounts.get(&did);
            let is_hidden = said.is_some_and(|(_, _, is_active)| !is_active);
            if is_hidden {
                return None;
            }
            Some([did, collection, rkey, rev.clone(), cid.clone()?])
        });
        live.collect()
    }

    /// One row per event, sorted by its text; what happens twice is there twice.
    pub(crate) fn events(&self) -> Vec<String> {
        sorted(self.events.iter())
    }

    /// Adds what another holds.
    pub(crate) fn extend(&mut self, other: &Expected) {
        for (path, written) in &other.paths {
            self.write(path.clone(), written.clone());
        }
        for (did, said) in &other.accounts {
            self.say(did.clone(), *said);
        }
        self.events.extend(other.events.iter().cloned());
    }

    fn say(&mut self, did: String, said: (i64, i64, bool)) {
        let standing = self.accounts.entry(did).or_insert(said);
        *standing = said.max(*standing);
    }

    fn write(&mut self, path: [String; 3], written: (String, Option<String>)) {
        let standing = self.paths.entry(path).or_insert_with(|| written.clone());
        if written.0 > standing.0 {
            *standing = written;
        }
    }

    fn event(&mut self, kind: &str, did: &Did, seq: i64, rest: [Option<String>; 5]) {
        let [rev, operation, collection, rkey, cid] = rest;
        self.events.push(serde_json::json!({
            "kind": kind, "did": did.as_str(), "seq": seq, "rev": rev, "operation": operation,
            "collection": collection, "rkey": rkey, "cid": cid,
        }));
    }

    /// Takes a frame as a reader of the protocol would; a commit has to verify.
    fn take(&mut self, frame: &Frame, documents: &HashMap<Did, DidDocument>) {
        let key = |did: &Did| documents[did].signing_key.as_ref().expect("a key");
        match frame {
            Frame::Commit(frame) => {
                let commit = verify_commit(frame, key(&frame.repo), NOW_US).expect("it verifies");
                let rev = commit.rev().to_string();
                for op in commit.ops() {
                    let (collection, rkey) = (op.collection.to_string(), op.rkey.to_string());
                    let cid = op.cid.map(|cid| cid.to_string());
                    let rest = [
                        Some(rev.clone()),
                        Some(op.action.as_str().to_owned()),
                        Some(collection.clone()),
                        Some(rkey.clone()),
                        cid.clone(),
                    ];
                    self.event("commit", commit.did(), frame.seq, rest);
                    let path = [commit.did().to_string(), collection, rkey];
                    let cid = cid.filter(|_| op.record.is_some());
                    self.write(path, (rev.clone(), cid));
                }
            }
            Frame::Sync(frame) => {
                let sync = verify_sync(frame, key(&frame.did), NOW_US).expect("it verifies");
                let rest = [Some(sync.rev().to_string()), None, None, None, None];
                self.event("sync", &frame.did, frame.seq, rest);
            }
            Frame::Identity(frame) => {
                self.event("identity", &frame.did, frame.seq, Default::default());
            }
            Frame::Account(frame) => {
                let time = datetime::parse(&frame.time).expect("a time");
                self.say(frame.did.to_string(), (time, frame.seq, frame.active));
                self.event("account", &frame.did, frame.seq, Default::default());
            }
            other => panic!("not in these recordings: {other:?}"),
        }
    }
}

/// The texts of rows, sorted.
pub(crate) fn sorted<'a>(rows: impl Iterator<Item = &'a Json>) -> Vec<String> {
    let mut rows: Vec<String> = rows.map(Json::to_string).collect();
    rows.sort_unstable();
    rows
}

/// A recording in a file, and what it adds.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// The file.
    pub(crate) file: PathBuf,
    /// What its frames add.
    pub(crate) expected: Expected,
}

/// Files of frames for two writers.
#[derive(Debug)]
pub(crate) struct Recordings {
    /// A JSON object of DID documents.
    pub(crate) documents: PathBuf,
    /// The files of each writer in the order of time. The first holds real frames.
    pub(crate) sides: [Vec<Recorded>; 2],
}

impl Recordings {
    /// Makes files in `folder`: for each writer one of real frames and `generated` of a network.
    pub(crate) fn make(folder: &Path, generated: usize) -> Recordings {
        let mut network = Network::new(NetworkConfig {
            accounts: 24,
            other_per_mille: 30,
            ..NetworkConfig::default()
        });
        let mut documents: BTreeMap<String, Json> = network.did_documents();
        let json = zstd::decode_all(fixture("did_docs.json.zst").as_slice()).expect("zstd");
        documents.extend(serde_json::from_slice::<BTreeMap<String, Json>>(&json).expect("JSON"));
        let parsed = documents.values().filter_map(|json| {
            let document = DidDocument::parse(json).ok()?;
            Some((document.id.clone(), document))
        });
        let mut writing = Writing {
            folder,
            documents: parsed.collect(),
            sides: Default::default(),
        };
        let documents_file = folder.join("did_docs.json");
        let text = serde_json::to_vec(&documents).expect("JSON");
        std::fs::write(&documents_file, text).expect("a file");

        let mut side_of = HashMap::new();
        let real = fixture("frames.bin.zst");
        let mut real = Recording::of(io_of(real)).expect("zstd");
        let frames = std::iter::from_fn(|| real.next_frame().expect("whole frames"));
        writing.write("real", frames.map(|frame| frame.to_vec()), &mut side_of);
        for index in 0..generated {
            let messages = network.by_ref().take(2 * MESSAGES_PER_FILE);
            let name = format!("generated-{index:02}");
            writing.write(&name, messages.map(|message| message.bytes), &mut side_of);
        }
        Recordings {
            documents: documents_file,
            sides: writing.sides,
        }
    }
}

struct Writing<'a> {
    folder: &'a Path,
    documents: HashMap<Did, DidDocument>,
    sides: [Vec<Recorded>; 2],
}

impl Writing<'_> {
    /// Writes one file for each side; a repo that is met for the first time goes to the side after the last one's.
    fn write(
        &mut self,
        name: &str,
        frames: impl Iterator<Item = Vec<u8>>,
        side_of: &mut HashMap<Did, usize>,
    ) {
        let mut bytes: [Vec<u8>; 2] = Default::default();
        let mut expected: [Expected; 2] = Default::default();
        for encoded in frames {
            let frame = Frame::decode(&encoded).expect("a frame");
            let did = match &frame {
                Frame::Commit(frame) => &frame.repo,
                Frame::Sync(frame) => &frame.did,
                Frame::Identity(frame) => &frame.did,
                Frame::Account(frame) => &frame.did,
                other => panic!("not in these recordings: {other:?}"),
            };
            let next = side_of.len() % 2;
            let side = *side_of.entry(did.clone()).or_insert(next);
            let length = u32::try_from(encoded.len()).expect("a short frame");
            bytes[side].extend(length.to_le_bytes());
            bytes[side].extend(&encoded);
            expected[side].take(&frame, &self.documents);
        }
        for (side, (bytes, expected)) in bytes.into_iter().zip(expected).enumerate() {
            let file = self.folder.join(format!("{name}-{side}.bin"));
            std::fs::write(&file, bytes).expect("a file");
            self.sides[side].push(Recorded { file, expected });
        }
    }
}

fn io_of(bytes: Vec<u8>) -> std::io::Cursor<Vec<u8>> {
    std::io::Cursor::new(bytes)
}

/// A file of the recorded relay frames.
fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/atproto/firehose");
    std::fs::read(folder.join(name)).expect("a fixture")
}
