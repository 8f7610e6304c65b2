//! The questions in `examples/`, answered over a network that is small enough to check by hand.
//!
//! The network is `tests/sql/examples/network.txt`, one change a line; the answers are in `tests/sql/examples/*.slt`,
//! which run the examples' own text. Each runs over the log's tail, over segments, and over both.

mod generated;
mod network;

use std::collections::BTreeSet;
use std::path::Path;

use crate::slt::{command, compact, run_all};
use crate::world::{World, append};

const ANSWERS: &str = "tests/sql/examples";

#[tokio::test(flavor = "multi_thread")]
async fn each_example_answers_alike_from_the_tail_from_segments_and_from_both() {
    let changes = network::read();
    let tail = World::in_memory().await;
    append(&mut tail.node.writer(), changes.clone()).await;
    run_all(ANSWERS, &tail.node.tables).await;
    compact(&tail.node.tables).await;
    run_all(ANSWERS, &tail.node.tables).await;

    // The later half marks rows of the earlier half's segments as dead.
    let both = World::in_memory().await;
    let (earlier, later) = changes.split_at(changes.len() / 2);
    append(&mut both.node.writer(), earlier.to_vec()).await;
    compact(&both.node.tables).await;
    append(&mut both.node.writer(), later.to_vec()).await;
    run_all(ANSWERS, &both.node.tables).await;
}

#[test]
fn each_example_has_an_answer_and_a_line_in_the_index() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str, extension: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let fitting = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
        fitting
            .map(|path| path.to_str().expect("a path in Unicode").to_owned())
            .collect()
    };
    let text = |path: &str| std::fs::read_to_string(path).expect("a text");
    let mut answered = BTreeSet::new();
    for file in names(ANSWERS, "slt") {
        let text = text(&file);
        answered.extend(text.lines().filter_map(command).map(|command| command.file));
    }
    let index = text(root.join("examples/README.md").to_str().expect("a path"));
    for file in names("examples", "sql") {
        let name = file.rsplit('/').next().expect("a name");
        assert!(
            answered.contains(&format!("examples/{name}")),
            "{name} has no answer in {ANSWERS}"
        );
        assert!(
            index.contains(&format!("({name})")),
            "{name} is not in the index"
        );
        for part in ["-- Parameters: ", "-- Cost: "] {
            let said = text(&file).lines().any(|line| line.starts_with(part));
            assert!(said, "{name} has no line {part:?}");
        }
    }
}
