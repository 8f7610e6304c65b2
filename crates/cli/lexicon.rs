//! `alluvium lexicon`: adds record types to a store, and says which were added.
//!
//! What is wrong with a Lexicon is said with its file and the place in it, before anything is written.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value as Json;
use tables::additions::{Added, add};
use tables::lexicon::LexiconDoc;
use tables::schema::TableDef;
use tables::view::{ReadView, Tables};

use crate::config::{LexiconAddArgs, LexiconListArgs};
use crate::{database, roles};

/// A file of more bytes is no Lexicon that anybody wrote.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// `alluvium lexicon add`.
pub(crate) async fn add_files(args: LexiconAddArgs) -> Result<()> {
    let docs = read_all(&args.files)?;
    let bucket = database::open(&args.store.store, &args.store.times).await?;
    let tables = roles::tables_of(bucket);
    let Added { root, lexicons } =
        Box::pin(add(&tables, &roles::committer(), docs.clone())).await?;
    match root {
        Some(root) => println!("added {} at version {}", lexicons.join(", "), root.version),
        None => println!("nothing to add: all of it is there"),
    }
    let given = docs.iter().map(|doc| doc.id().to_owned()).collect();
    let view = view(&tables).await?;
    print!("{}", describe(&view, Some(&given)).await?);
    for doc in &docs {
        for (at, reference) in view.catalog().missing_references(doc) {
            eprintln!(
                "{}: {at} refers to {reference}, which is not there, so its column is JSON for good; \
                 Lexicons that refer to one another are added by one command",
                doc.id()
            );
        }
    }
    Ok(())
}

/// `alluvium lexicon list`.
pub(crate) async fn list(args: LexiconListArgs) -> Result<()> {
    let bucket = database::open_existing(&args.store.store, &args.store.times).await?;
    let view = view(&roles::tables_of(bucket)).await?;
    let told = describe(&view, None).await?;
    if told.is_empty() {
        println!("no Lexicon was added; `alluvium lexicon add` does");
    }
    print!("{told}");
    Ok(())
}

async fn view(tables: &Tables) -> Result<ReadView> {
    let view = ReadView::open(tables).await;
    view.context("the tables can't be read")
}

/// The tables of the Lexicons that were added, or of those in `given`: their columns, and what waits for them.
async fn describe(view: &ReadView, given: Option<&BTreeSet<String>>) -> Result<String> {
    let mut told = String::new();
    let mut seen = BTreeSet::new();
    for doc in view.catalog().added_lexicons() {
        if !seen.insert(doc.id()) || given.is_some_and(|given| !given.contains(doc.id())) {
            continue;
        }
        let def = view.catalog().records_of(doc.id());
        if def.record_type().is_none() {
            writeln!(told, "\n{}\n  definitions, which make no table", doc.id())?;
            continue;
        }
        let scan = view.scan(def).await;
        let scan = scan.with_context(|| format!("{} can't be read", def.name))?;
        writeln!(told, "\n{}", def.name)?;
        writeln!(told, "  {}", columns(def))?;
        writeln!(
            told,
            "  {} records, {} of them wait to be written into its columns",
            scan.rows(),
            scan.rows_before()
        )?;
    }
    Ok(told)
}

/// The columns that a table's Lexicon makes, with their types.
fn columns(def: &TableDef) -> String {
    let made = def.record_type().map_or(&[][..], |record| record.columns());
    let columns = made.iter().map(|column| {
        let field = def.schema.field_with_name(&column.name);
        let data_type = field.map(|field| field.data_type().to_string());
        format!("{} {}", column.name, data_type.unwrap_or_default())
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// The Lexicons in some files and folders.
fn read_all(paths: &[PathBuf]) -> Result<Vec<LexiconDoc>> {
    let mut docs = Vec::new();
    for path in paths {
        let files = files_of(path)?;
        if files.is_empty() {
            bail!("{} holds no .json file", path.display());
        }
        for file in files {
            docs.extend(read(&file)?);
        }
    }
    Ok(docs)
}

/// A file, or the `.json` files of a folder and of those in it, by name.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    let fail = || format!("{} can't be read", path.display());
    if !std::fs::metadata(path).with_context(fail)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).with_context(fail)? {
        entries.push(entry.with_context(fail)?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let is_json = entry.path().extension().is_some_and(|ext| ext == "json");
        // A link to a folder is not followed: it may lead around in a circle.
        if entry.file_type().with_context(fail)?.is_dir() {
            files.extend(files_of(&entry.path())?);
        } else if is_json {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// The Lexicons in one file: a JSON object, or an array of them.
fn read(file: &Path) -> Result<Vec<LexiconDoc>> {
    let named = || file.display().to_string();
    let bytes = std::fs::metadata(file).with_context(named)?.len();
    if bytes > FILE_BYTES_MAX {
        bail!("{}: {bytes} bytes are no Lexicon", named());
    }
    let text =
        std::fs::read_to_string(file).with_context(|| format!("{} can't be read", named()))?;
    let json: Json =
        serde_json::from_str(&text).with_context(|| format!("{}: no JSON", named()))?;
    let given = match json {
        Json::Array(many) => many,
        one => vec![one],
    };
    if given.is_empty() {
        bail!("{}: an empty array holds no Lexicon", named());
    }
    let docs = given.iter().map(LexiconDoc::parse);
    docs.collect::<Result<_, _>>().with_context(named)
}
