//! What is asked of hosts: a repo, a source's list of repos, and whether a source is a PDS.
//!
//! The hosts of repos are named by DID documents, so they are asked by way of [`Outbound`]; sources are the operator's
//! own. A host's error is told apart by what is to be done next. What an answer holds is not verified here.

use std::fmt::Debug;
use std::time::Duration;

use atproto::{Did, Tid};
use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::Value as Json;
use thiserror::Error;
use url::Url;

use crate::outbound::{Answer, Limits, Outbound, OutboundError, Retry};

/// How many repos a source is asked to list at once.
const LIST_LIMIT: &str = "1000";

/// What lists of repos may be: a thousand entries of some 300 bytes, with room to spare.
const LIST: Limits = Limits {
    bytes_max: 8 << 20,
    time: Duration::from_secs(60),
    idle: Duration::from_secs(20),
};

/// Why a host gave nothing.
#[derive(Debug, Error)]
pub(crate) enum HostError {
    /// It says that it has no such repo to give.
    #[error("the host says {reason}")]
    Gone {
        /// Its word, in snake_case.
        reason: &'static str,
    },
    /// It has too much to do.
    #[error("the host wants to be left alone (HTTP {status})")]
    Busy {
        /// The status.
        status: u16,
        /// For how long.
        retry: Option<Retry>,
    },
    /// It says something else.
    #[error("the host answers with HTTP {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// Its answer is none of this method.
    #[error("the host's answer is malformed")]
    Malformed,
    /// It can't be asked, or does not answer.
    #[error("no answer from the host")]
    Outbound(#[from] OutboundError),
}

impl HostError {
    /// A stable word for counting.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Gone { reason } => reason,
            Self::Busy { .. } => "host_busy",
            Self::Status { .. } => "host_status",
            Self::Malformed => "host_answer_malformed",
            Self::Outbound(error) => error.reason(),
        }
    }
}

/// A repo as a source lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) did: Did,
    pub(crate) rev: Tid,
}

/// Some of the active repos that a source lists, and where its list goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListPage {
    pub(crate) repos: Vec<Listed>,
    pub(crate) cursor: Option<String>,
}

/// Answers what hosts are asked.
pub(crate) trait Hosts: Debug + Send + Sync {
    /// The whole repo of `did`, as the CAR that `pds` gives; `room` says before more is held whether it has room.
    fn repo<'a>(
        &'a self,
        pds: &'a str,
        did: &'a Did,
        room: &'a mut (dyn FnMut(u64) -> bool + Send),
    ) -> BoxFuture<'a, Result<Bytes, HostError>>;

    /// The repos that `source` lists behind `cursor`.
    fn list<'a>(
        &'a self,
        source: &'a str,
        cursor: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, HostError>>;
}

/// Hosts, asked by HTTP.
#[derive(Clone, Debug)]
pub(crate) struct HttpHosts {
    outbound: Outbound,
    repo: Limits,
}

impl HttpHosts {
    pub(crate) fn new(outbound: Outbound, repo: Limits) -> Self {
        Self { outbound, repo }
    }
}

impl Hosts for HttpHosts {
    fn repo<'a>(
        &'a self,
        pds: &'a str,
        did: &'a Did,
        room: &'a mut (dyn FnMut(u64) -> bool + Send),
    ) -> BoxFuture<'a, Result<Bytes, HostError>> {
        Box::pin(async move {
            let mut url = method(pds, "com.atproto.sync.getRepo")?;
            url.query_pairs_mut().append_pair("did", did.as_str());
            let answer = self.outbound.get_into(&url, self.repo, room).await?;
            good(answer)
        })
    }

    fn list<'a>(
        &'a self,
        source: &'a str,
        cursor: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, HostError>> {
        Box::pin(async move {
            let mut url = method(source, "com.atproto.sync.listRepos")?;
            url.query_pairs_mut().append_pair("limit", LIST_LIMIT);
            if let Some(cursor) = cursor {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let body = good(self.outbound.get_configured(&url, LIST).await?)?;
            page(&body).ok_or(HostError::Malformed)
        })
    }
}

/// Whether `source` is a PDS: it describes itself as one, which a relay does not.
///
/// # Errors
/// If it does not answer.
pub async fn is_pds(outbound: &Outbound, source: &str) -> Result<bool, OutboundError> {
    let wrong = |_| OutboundError::Url {
        url: source.to_owned(),
    };
    let url = method(source, "com.atproto.server.describeServer").map_err(wrong)?;
    let answer = outbound.get_configured(&url, Limits::DOCUMENT).await?;
    Ok(answer.status == 200)
}

fn method(host: &str, nsid: &str) -> Result<Url, HostError> {
    let host = host.trim_end_matches('/');
    let url = format!("{host}/xrpc/{nsid}");
    url.parse()
        .map_err(|_| HostError::Outbound(OutboundError::Url { url }))
}

fn good(answer: Answer) -> Result<Bytes, HostError> {
    match answer.status {
        200 => Ok(answer.body),
        429 | 503 => Err(HostError::Busy {
            status: answer.status,
            retry: answer.retry,
        }),
        status => {
            let json: Option<Json> = serde_json::from_slice(&answer.body).ok();
            let error = json.as_ref().and_then(|json| json.get("error")?.as_str());
            match error.and_then(gone) {
                Some(reason) if (400..500).contains(&status) => Err(HostError::Gone { reason }),
                _ => Err(HostError::Status { status }),
            }
        }
    }
}

/// The errors of getRepo that say that there is no repo to be had.
fn gone(error: &str) -> Option<&'static str> {
    Some(match error {
        "RepoNotFound" => "repo_not_found",
        "RepoTakendown" => "repo_takendown",
        "RepoSuspended" => "repo_suspended",
        "RepoDeactivated" => "repo_deactivated",
        _ => return None,
    })
}

/// Reads a page of a list. Entries that are malformed or not active are left out: there is nothing to fetch.
fn page(body: &[u8]) -> Option<ListPage> {
    let json: Json = serde_json::from_slice(body).ok()?;
    let listed = |entry: &Json| {
        let is_active = entry.get("active").and_then(Json::as_bool).unwrap_or(true);
        is_active.then_some(())?;
        Some(Listed {
            did: entry.get("did")?.as_str()?.parse().ok()?,
            rev: entry.get("rev")?.as_str()?.parse().ok()?,
        })
    };
    Some(ListPage {
        repos: json
            .get("repos")?
            .as_array()?
            .iter()
            .filter_map(listed)
            .collect(),
        cursor: json.get("cursor").and_then(Json::as_str).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::web::{Reply, Web};

    use super::*;

    const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

    #[tokio::test]
    async fn a_host_s_words_are_told_apart() {
        for (reply, reason) in [
            (Reply::error(400, "RepoNotFound"), "repo_not_found"),
            (Reply::error(404, "RepoNotFound"), "repo_not_found"),
            (Reply::error(400, "RepoTakendown"), "repo_takendown"),
            (Reply::error(400, "RepoSuspended"), "repo_suspended"),
            (Reply::error(400, "RepoDeactivated"), "repo_deactivated"),
            (Reply::error(400, "InvalidRequest"), "host_status"),
            (Reply::error(500, "RepoNotFound"), "host_status"),
            (Reply::status(429).with("retry-after", "9"), "host_busy"),
            (Reply::status(503), "host_busy"),
            (Reply::status(404), "host_status"),
            (Reply::bytes(vec![0; 2000]), "too_long"),
        ] {
            let web = Web::serve(move |_| reply.clone()).await;
            let answer = ask(&web).await;
            assert_eq!(answer.expect_err("an error").reason(), reason);
            assert_eq!(
                web.asked(),
                [format!(
                    "/xrpc/com.atproto.sync.getRepo?did=did%3Aplc%3A{}",
                    &DID[8..]
                )]
            );
        }
        let web = Web::serve(|_| Reply::bytes("CAR")).await;
        assert_eq!(&ask(&web).await.expect("an answer")[..], b"CAR");
    }

    #[tokio::test]
    async fn a_list_holds_what_is_active() {
        let rev = "3mptbyplj5d2a";
        let web = Web::serve(move |path| match path {
            "/xrpc/com.atproto.sync.listRepos?limit=1000&cursor=b+c" => Reply::json(&json!({
                "cursor": "d",
                "repos": [
                    {"did": DID, "rev": rev, "head": "x", "active": true},
                    {"did": DID, "rev": rev},
                    {"did": DID, "rev": rev, "active": false, "status": "deactivated"},
                    {"did": DID, "rev": ""},
                    {"did": "x", "rev": rev},
                ],
            })),
            "/xrpc/com.atproto.sync.listRepos?limit=1000" => Reply::json(&json!({"repos": []})),
            _ => Reply::status(404),
        })
        .await;
        let hosts = hosts();
        let page = hosts
            .list(&web.url("/"), Some("b c"))
            .await
            .expect("a page");
        assert_eq!((page.repos.len(), page.cursor.as_deref()), (2, Some("d")));
        let page = hosts.list(&web.url(""), None).await.expect("a page");
        assert_eq!(page, ListPage::default());
    }

    #[tokio::test]
    async fn a_pds_describes_itself() {
        let outbound = Outbound::new(true).expect("TLS");
        for (status, expected) in [(200, true), (404, false), (501, false)] {
            let web = Web::serve(move |path| match path {
                "/xrpc/com.atproto.server.describeServer" => Reply::status(status),
                _ => Reply::status(418),
            })
            .await;
            let answer = is_pds(&outbound, &web.url("")).await;
            assert_eq!(answer.expect("an answer"), expected);
        }
    }

    fn hosts() -> HttpHosts {
        let repo = Limits {
            bytes_max: 1000,
            ..LIST
        };
        HttpHosts::new(Outbound::new(true).expect("TLS"), repo)
    }

    async fn ask(web: &Web) -> Result<Bytes, HostError> {
        let did = DID.parse().expect("a DID");
        hosts().repo(&web.url(""), &did, &mut |_| true).await
    }
}
