//! Where each object of a bucket stands, and what its path says.
//!
//! Names sort: log objects of a writer by number, manifests newest first. What is made for a commit has the
//! base version in its name (the version that its maker had read), so that collection can tell an upload
//! in flight from garbage without a clock.

use object_store::path::Path;
use ulid::Ulid;

use crate::ids::{Position, Seq, Version, WriterId};

/// The file that makes a prefix a database.
pub const DATABASE: &str = "alluvium.json";
/// The folder of the log.
pub const LOG: &str = "wal";
/// The folder of the manifest chain.
pub const MANIFEST: &str = "manifest";
/// The folder of what the probe leaves when its process dies.
pub const PROBE: &str = "probe";
/// The folder of the nodes' heartbeats, which alone are overwritten.
pub const NODES: &str = "nodes";
/// The folders of objects that manifests name and collection deletes.
pub const NAMED: [&str; 3] = ["tables", "documents", "system"];

/// The path of `alluvium.json`.
pub fn database() -> Path {
    Path::from(DATABASE)
}

/// The folder of one writer's log.
pub fn wal_writer(writer: WriterId) -> Path {
    Path::from_iter([LOG, &writer.to_string()])
}

/// The path of a log object.
pub fn wal_object(position: Position) -> Path {
    let Position { writer, seq } = position;
    Path::from_iter([LOG, &writer.to_string(), &format!("{:020}.wal", seq.0)])
}

/// The position that `path` names, if it is a log object's.
pub fn position_of(path: &Path) -> Option<Position> {
    let parts: Vec<_> = path.parts().collect();
    let [folder, writer, name] = parts.as_slice() else {
        return None;
    };
    if folder.as_ref() != LOG {
        return None;
    }
    let seq = Seq(number(name.as_ref().strip_suffix(".wal")?)?);
    let writer = writer.as_ref().parse().ok()?;
    (seq >= Seq::FIRST).then_some(Position { writer, seq })
}

/// The path of a version's root.
pub fn manifest(version: Version) -> Path {
    Path::from_iter([MANIFEST, &format!("{:020}.manifest", u64::MAX - version.0)])
}

/// The version whose root `path` names, if it names one.
pub fn version_of(path: &Path) -> Option<Version> {
    let parts: Vec<_> = path.parts().collect();
    let [folder, name] = parts.as_slice() else {
        return None;
    };
    if folder.as_ref() != MANIFEST {
        return None;
    }
    let inverted = number(name.as_ref().strip_suffix(".manifest")?)?;
    Some(Version(u64::MAX - inverted))
}

/// A new path for an object of `table` (one path segment), made by a process that had read `base`.
pub fn table_object(table: &str, base: Version, ulid: Ulid, extension: &str) -> Path {
    Path::from_iter(["tables", table, &object_name(base, ulid, extension)])
}

/// A new path for an object of no table, made by a process that had read `base`.
pub fn system_object(base: Version, ulid: Ulid, extension: &str) -> Path {
    Path::from_iter(["system", &object_name(base, ulid, extension)])
}

/// The base version in the name of an object that manifests name; `None` for every other path.
pub fn base_of(path: &Path) -> Option<Version> {
    let folder = path.parts().next()?;
    if !NAMED.contains(&folder.as_ref()) {
        return None;
    }
    let (base, rest) = path.filename()?.split_once('-')?;
    let (ulid, _) = rest.split_once('.')?;
    Ulid::from_string(ulid).ok()?;
    Some(Version(number(base)?))
}

fn object_name(base: Version, ulid: Ulid, extension: &str) -> String {
    format!("{:020}-{ulid}.{extension}", base.0)
}

/// Reads exactly 20 digits.
fn number(text: &str) -> Option<u64> {
    (text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ulid() -> Ulid {
        Ulid::from_parts(1_700_000_000_000, 7)
    }

    #[test]
    fn every_path_reads_back() {
        for seq in [1, 2, u64::MAX] {
            let position = Position {
                writer: WriterId(ulid()),
                seq: Seq(seq),
            };
            assert_eq!(position_of(&wal_object(position)), Some(position));
        }
        for version in [0, 1, u64::MAX].map(Version) {
            assert_eq!(version_of(&manifest(version)), Some(version));
            let object = table_object("app.bsky.feed.post", version, ulid(), "parquet");
            assert_eq!(base_of(&object), Some(version));
            assert_eq!(
                base_of(&system_object(version, ulid(), "part")),
                Some(version)
            );
        }
    }

    #[test]
    fn a_newer_manifest_sorts_first() {
        assert!(manifest(Version(10)) < manifest(Version(9)));
    }

    #[test]
    fn a_strange_name_is_none_of_ours() {
        let writer = WriterId(ulid());
        for name in [
            format!("wal/{writer}/1.wal"),
            format!("wal/{writer}/00000000000000000000.wal"),
            format!("wal/{writer}/+0000000000000000001.wal"),
            format!(
                "wal/{}/00000000000000000001.wal",
                writer.to_string().to_lowercase()
            ),
            format!("wal/{writer}/x/00000000000000000001.wal"),
            format!("log/{writer}/00000000000000000001.wal"),
        ] {
            assert_eq!(position_of(&Path::from(name)), None);
        }
        for name in [
            "manifest/99999999999999999999.manifest",
            "manifest/7.manifest",
            "wal/00000000000000000001.manifest",
        ] {
            assert_eq!(version_of(&Path::from(name)), None);
        }
        for name in [
            "tables/t/readme.txt",
            "tables/t/00000000000000000001-x.part",
            "nodes/00000000000000000001-01ARZ3NDEKTSV4RRFFQ69G5FAV.part",
        ] {
            assert_eq!(base_of(&Path::from(name)), None);
        }
    }
}
