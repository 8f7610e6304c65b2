//! What a user can set: the commands, their flags with defaults, and the help that teaches them.
//!
//! Only this crate reads flags and environment; all others are handed values. Units stand in the names.

use std::path::PathBuf;
use std::time::Duration;

use atproto::{Did, Nsid};
use clap::{Args, Parser, Subcommand, ValueEnum};
use crdt::Pattern;
use ingest::{Endpoint, EndpointError};
use url::Url;

/// Where a server listens unless it is told otherwise.
pub(crate) const LISTEN: &str = "127.0.0.1:7070";

/// The folder that `up` makes when no store is named.
pub(crate) const EMBEDDED_STORE: &str = "./alluvium-data";

/// Alluvium follows the AT Protocol firehose into a bucket that you own, and answers SQL over it.
#[derive(Debug, Parser)]
#[command(
    name = "alluvium",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(
    after_help = "Start here:\n  alluvium up --demo\n\nThen, in another terminal:\n  alluvium sql --connect \
                        grpc://127.0.0.1:7070 \"SELECT count(*) FROM atproto.records\""
)]
pub(crate) struct Config {
    /// What is logged to standard error, for example `debug` or `warn,storage=trace`; the default depends on the
    /// command.
    #[arg(long, global = true, env = "ALLUVIUM_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How lines of the log look: for people, or one JSON object each.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Time, level, message and fields.
    Text,
    /// One JSON object a line.
    Json,
}

/// One command each; every one of them can run beside all others on the same store.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process: sources, compaction, collection and the server.
    ///
    /// Without --store the data is in ./alluvium-data. Ctrl-C stops it; everything that was acknowledged stays.
    #[command(
        after_help = "Examples:\n  alluvium up --demo\n  alluvium up --relay https://bsky.network\n  alluvium up --store \
                            s3://my-bucket/alluvium --relay https://bsky.network --collection app.bsky.feed.*"
    )]
    Up(UpArgs),
    /// Follow relays, and hosts of accounts (PDSes), into a store: every change verified, until it is stopped.
    ///
    /// Where it stopped, it goes on: the store holds how far each source was followed. Several sources may tell the
    /// same; it is kept once. Ctrl-C stops it when all that was read is durable.
    #[command(
        after_help = "Examples:\n  alluvium ingest --store s3://my-bucket/alluvium --relay https://bsky.network\n  \
                            alluvium ingest --store ./alluvium-data --relay https://bsky.network --collection \
                            app.bsky.graph.*\n  alluvium ingest --store ./alluvium-data --relay \
                            https://bsky.network --did did:plc:z72i7hdynmk6r22z27h6tvur"
    )]
    Ingest(IngestArgs),
    /// Serve queries: Arrow Flight SQL over gRPC, and /healthz, /readyz, /metrics over HTTP, on one port.
    ///
    /// A server keeps nothing but caches, so start as many as you like on one store. Off loopback it asks clients
    /// for a token, from ALLUVIUM_TOKEN or --token-file.
    #[command(after_help = "Example:\n  alluvium serve --store s3://my-bucket/alluvium")]
    Serve(ServeArgs),
    /// Turn the log into Parquet segments, and small segments into larger ones.
    ///
    /// Any number of compactors may work on one store: of two that race, one wins and the other begins again.
    #[command(
        after_help = "Examples:\n  alluvium compact --store s3://my-bucket/alluvium\n  alluvium compact --store \
                            ./alluvium-data --once"
    )]
    Compact(CompactArgs),
    /// Delete what no reader can need any more: merged log objects, replaced segments, old manifests.
    #[command(
        after_help = "Examples:\n  alluvium collect --store s3://my-bucket/alluvium\n  alluvium collect --store \
                            ./alluvium-data --once"
    )]
    Collect(CollectArgs),
    /// Put recorded firehose frames through verification into the log; ends when all of it is durable.
    ///
    /// A file is a sequence of frames, each a length (four bytes, little endian) and its bytes; `.zst` is
    /// decompressed. Replaying a file twice changes nothing.
    #[command(
        after_help = "Example:\n  alluvium replay --store ./alluvium-data --did-docs did_docs.json.zst \
                            frames.bin.zst"
    )]
    Replay(ReplayArgs),
    /// Put files of other kinds into the log.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Add record types of your own, and say which were added.
    #[command(subcommand)]
    Lexicon(LexiconCommand),
    /// Ask in SQL, one statement or an interactive session.
    ///
    /// Reads a store directly, or asks a server. Without a statement it reads statements from standard input, each
    /// ended by a semicolon; on a terminal with history, timing and `\?` for help. A statement may have parameters,
    /// `$NAME`, whose values -p gives.
    #[command(
        after_help = "Examples:\n  alluvium sql --store ./alluvium-data \"SELECT did, text FROM bsky.post LIMIT \
                            5\"\n  alluvium sql --connect grpc://127.0.0.1:7070 --format csv \"SELECT * FROM \
                            atproto.events\"\n  alluvium sql --store ./alluvium-data --file examples/followers.sql -p \
                            did=did:plc:z72i7hdynmk6r22z27h6tvur\n  alluvium sql --store ./alluvium-data"
    )]
    Sql(SqlArgs),
    /// Say what a store holds and how far its work has come.
    #[command(after_help = "Example:\n  alluvium status --store ./alluvium-data")]
    Status(StatusArgs),
}

/// Kinds of files that can be imported.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Import repositories from CAR files, as `com.atproto.sync.getRepo` gives them.
    ///
    /// With the DID document of the repository its signature is checked, and the import replaces what was known of
    /// it; without, its records are marked `archive`.
    #[command(after_help = "Example:\n  alluvium import car --store ./alluvium-data repo.car")]
    Car(ImportArgs),
}

/// What is done with Lexicons.
#[derive(Debug, Subcommand)]
pub(crate) enum LexiconCommand {
    /// Add Lexicons: each record type becomes a table, or gets new columns in the one that it has.
    ///
    /// Every process on the store sees them at its next query or round of compaction. Records that came before are in
    /// the table at once; compaction then moves them into its columns. Columns are only ever added: a value of another
    /// type than its column's stands in `extra`.
    #[command(
        after_help = "Examples:\n  alluvium lexicon add --store ./alluvium-data recipe.json\n  alluvium lexicon add --store \
                            s3://my-bucket/alluvium lexicons/"
    )]
    Add(LexiconAddArgs),
    /// List the Lexicons that were added, with their tables, columns, and how many records wait to be moved.
    #[command(after_help = "Example:\n  alluvium lexicon list --store ./alluvium-data")]
    List(LexiconListArgs),
}

/// Which store, and the times that all processes on one store share.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// s3://BUCKET/PREFIX, file:///PATH, a path, or memory://.
    ///
    /// S3 takes the usual AWS_* variables; AWS_ENDPOINT_URL names another S3, such as MinIO.
    #[arg(long, value_name = "URL")]
    pub(crate) store: String,
    #[command(flatten)]
    pub(crate) times: TimeArgs,
}

/// The times that all processes on one store must agree on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Times (the same for all processes on one store)")]
pub(crate) struct TimeArgs {
    /// How long what no new reader can need is kept for readers that are under way.
    #[arg(long, value_name = "N", default_value_t = 1800)]
    pub(crate) grace_seconds: u64,
    /// The longest that a query may run; at most half the grace.
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub(crate) query_seconds_max: u64,
    /// How long old versions are kept.
    #[arg(long, value_name = "N", default_value_t = 21_600)]
    pub(crate) retention_seconds: u64,
    /// How long a request to the store that fails is made again before its caller is told.
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub(crate) retry_seconds: u64,
}

/// Where a server listens, and what it asks of clients.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// One port for gRPC and HTTP; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = LISTEN)]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    /// Memory that all queries together may use.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) query_memory_mib_max: usize,
}

/// The shared secret between clients and server.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// A file that holds the token; without it the variable ALLUVIUM_TOKEN is used, if it is set.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// How often the background work looks for something to do.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CompactEvery {
    /// How long to wait after a round of compaction that found nothing to do.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub(crate) compact_interval_ms: u64,
    /// How old the oldest object of the log may get before it is made into segments, however little there is.
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    pub(crate) tail_age_ms: u32,
}

/// How often the collector looks.
#[derive(Debug, Args)]
pub(crate) struct CollectEvery {
    /// How long to wait between rounds of collection.
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    pub(crate) collect_interval_ms: u64,
}

/// Flags of `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// s3://BUCKET/PREFIX, file:///PATH, a path, or memory://.
    ///
    /// S3 takes the usual AWS_* variables; AWS_ENDPOINT_URL names another S3, such as MinIO.
    #[arg(long, value_name = "URL", default_value = EMBEDDED_STORE)]
    pub(crate) store: String,
    /// A relay or PDS to follow, as `alluvium ingest` does; again for each.
    #[arg(long, value_name = "URL")]
    pub(crate) relay: Vec<String>,
    /// Replay a built-in sample of the firehose, ask a first query, then serve.
    #[arg(long)]
    pub(crate) demo: bool,
    /// With --demo: end after the first query.
    #[arg(long, requires = "demo")]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) follow: FollowArgs,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) compact: CompactEvery,
    #[command(flatten)]
    pub(crate) collect: CollectEvery,
    #[command(flatten)]
    pub(crate) times: TimeArgs,
}

/// Flags of `ingest`.
#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// A relay or PDS, such as `https://bsky.network`; again for each.
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) relay: Vec<String>,
    /// Serve /healthz, /readyz and /metrics (Prometheus) over HTTP there; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) metrics_listen: Option<String>,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    #[command(flatten)]
    pub(crate) follow: FollowArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What is followed, and how.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "What is followed (the same at each start, for a source to go on where it stopped)"
)]
pub(crate) struct FollowArgs {
    /// A collection to take, or a prefix such as `app.bsky.feed.*`; again for each. Without it all are taken.
    #[arg(long, value_name = "NSID", requires = "relay")]
    pub(crate) collection: Vec<Pattern>,
    /// A collection to leave out.
    #[arg(long, value_name = "NSID", requires = "relay")]
    pub(crate) exclude: Vec<Nsid>,
    /// A repo to take, whole, what it holds already included; again for each. Without it all are taken.
    #[arg(long, value_name = "DID", requires = "relay")]
    pub(crate) did: Vec<Did>,
    /// Whether a repo that a source tells of for the first time is fetched whole from its host. `auto`: those of a PDS
    /// and those that --did names; at a relay it would be millions.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ResyncNew::Auto, requires = "relay")]
    pub(crate) resync_new: ResyncNew,
    /// The directory of did:plc.
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://plc.directory",
        requires = "relay"
    )]
    pub(crate) plc_url: Url,
    /// Who is asked where handles lead, by XRPC, instead of DNS and the handles' own hosts.
    #[arg(long, value_name = "URL", requires = "relay")]
    pub(crate) handle_resolver: Option<Url>,
    /// Ask hosts that DID documents and handles name also at private addresses, and by plain IP: for networks of tests.
    #[arg(long, requires = "relay")]
    pub(crate) allow_private_addresses: bool,
    /// A JSON object of DID documents by DID (`.zst` too), to be used instead of directories.
    #[arg(long, value_name = "FILE", requires = "relay", conflicts_with_all = ["plc_url", "handle_resolver"])]
    pub(crate) did_docs: Option<PathBuf>,
    /// Where to begin at a source that this store does not know: one of the source's own numbers, or 0 for all that it
    /// still has. Without it, with what is new.
    #[arg(long, value_name = "N", requires = "relay", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) cursor: Option<i64>,
    /// Give up how far a source was followed (all, or the one named), and begin as if it were not known. What was
    /// missed is told in system.resyncs, and fetched.
    #[arg(
        long,
        value_name = "RELAY",
        requires = "relay",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub(crate) reset_cursor: Option<String>,
}

/// Whether repos that a source tells of for the first time are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResyncNew {
    /// Those of a PDS, and those that are named.
    Auto,
    /// All.
    On,
    /// None.
    Off,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Flags of `compact`.
#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// Work until nothing is left to do, then end.
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) every: CompactEvery,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Flags of `collect`.
#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// Make one round, then end.
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) every: CollectEvery,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Flags of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A JSON object of DID documents by DID (`.zst` too), to verify signatures with.
    #[arg(long, value_name = "FILE")]
    pub(crate) did_docs: Option<PathBuf>,
    /// The name that the frames' source gets; without it, the BLAKE3 of the first file.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Recorded frames.
    #[arg(required = true, value_name = "FRAMES")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Flags of `import car`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A JSON object of DID documents by DID (`.zst` too), to verify signatures with.
    #[arg(long, value_name = "FILE")]
    pub(crate) did_docs: Option<PathBuf>,
    /// The name that the files' source gets; without it, each file's BLAKE3.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// CAR files, one repository each.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Flags of `lexicon add`.
#[derive(Debug, Args)]
pub(crate) struct LexiconAddArgs {
    /// Lexicons as JSON: one, an array, or a folder of .json files. Those given together may refer to one another.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Flags of `lexicon list`.
#[derive(Debug, Args)]
pub(crate) struct LexiconListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Flags of `sql`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("asked").args(["store", "connect"]).required(true))]
#[command(group = clap::ArgGroup::new("said").args(["file", "statement"]))]
pub(crate) struct SqlArgs {
    /// s3://BUCKET/PREFIX, file:///PATH or a path, read directly.
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// A server to ask instead.
    #[arg(long, value_name = "grpc://HOST:PORT")]
    pub(crate) connect: Option<String>,
    /// How rows are printed; the default is `table`.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// A file with the statement, such as those in `examples/`.
    #[arg(long, value_name = "FILE", conflicts_with = "statement")]
    pub(crate) file: Option<PathBuf>,
    /// The value of a parameter that the statement names `$NAME`; once for each.
    #[arg(short, long = "param", value_name = "NAME=VALUE", requires = "said", value_parser = named_value)]
    pub(crate) params: Vec<(String, String)>,
    /// The statement; without it, statements are read from standard input.
    #[arg(value_name = "SELECT …")]
    pub(crate) statement: Option<String>,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    #[command(flatten)]
    pub(crate) times: TimeArgs,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Splits `NAME=VALUE`; `$NAME=VALUE` is taken too.
fn named_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or_default();
    match name.trim_start_matches('$') {
        "" => Err("write NAME=VALUE".to_owned()),
        name => Ok((name.to_owned(), value.to_owned())),
    }
}

/// How rows are printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lined up for the eye.
    Table,
    /// RFC 4180 with a header line.
    Csv,
    /// One JSON array of objects.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// An Arrow IPC stream.
    Arrow,
}

impl Command {
    /// What is logged when nothing else is asked for: a role reports its rounds, a single command only trouble.
    pub(crate) fn default_log(&self) -> &'static str {
        match self {
            Command::Serve(_) | Command::Compact(_) | Command::Collect(_) | Command::Ingest(_) => {
                "warn,alluvium=info,server=info,\
                 query=info,tables=info,ingest=info,crdt=info,storage=info"
            }
            _ => "warn",
        }
    }
}

impl FollowArgs {
    /// Whether the cursor of a source is given up.
    ///
    /// # Errors
    /// If the flag names no source.
    pub(crate) fn resets(&self, endpoint: &Endpoint) -> Result<bool, EndpointError> {
        Ok(match self.reset_cursor.as_deref() {
            None => false,
            Some("") => true,
            Some(named) => Endpoint::parse(named)?.name() == endpoint.name(),
        })
    }
}

impl TimeArgs {
    /// As the store takes them.
    pub(crate) fn settings(&self) -> storage::Settings {
        storage::Settings {
            grace: Duration::from_secs(self.grace_seconds),
            query_max: Duration::from_secs(self.query_seconds_max),
            retention: Duration::from_secs(self.retention_seconds),
            retry_for: Duration::from_secs(self.retry_seconds),
            ..storage::Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Config::command().debug_assert();
    }

    #[test]
    fn the_default_times_are_accepted() {
        let times = TimeArgs {
            grace_seconds: 1800,
            query_seconds_max: 600,
            retention_seconds: 21_600,
            retry_seconds: 120,
        };
        assert_eq!(times.settings(), storage::Settings::default());
        assert_eq!(times.settings().check(), Ok(()));
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Config::command().get_subcommands() {
            let leaves: Vec<_> = command.get_subcommands().collect();
            let leaves = if leaves.is_empty() {
                vec![command]
            } else {
                leaves
            };
            for leaf in leaves {
                let help = leaf
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    help.contains("alluvium "),
                    "{} has no example",
                    leaf.get_name()
                );
            }
        }
    }
}
