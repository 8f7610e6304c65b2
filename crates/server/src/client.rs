//! Asks a server over Flight SQL, as `alluvium sql --connect` does.
//!
//! Guarantees that an error carries the server's own sentence. One client is one connection.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightInfo;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use query::QueryError;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use url::Url;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest message that is accepted from a server. One row is never split, so this bounds a row.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not the address of a server.
    #[error("{url} is no address of a server: write grpc://HOST:PORT")]
    Url {
        /// What was given.
        url: String,
    },
    /// Nothing answers there.
    #[error("no server answers at {url}")]
    Unreachable {
        /// Where it was tried.
        url: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The server answered with an error.
    #[error("{}", status.message())]
    Refused {
        /// Its code and sentence.
        status: Box<tonic::Status>,
    },
    /// What came is not what the protocol says.
    #[error("the server's answer can't be read: {0}")]
    Answer(#[from] FlightError),
    /// A parameter's text is no value of its type.
    #[error("{}", crate::error::sentence(source))]
    Value {
        /// Which, and what it should be.
        source: Box<QueryError>,
    },
    /// The answer lies at several places or at none; this client reads one.
    #[error("the server's answer lies at {endpoints} places; this client reads one")]
    Endpoints {
        /// At how many.
        endpoints: usize,
    },
}

/// Rows as they arrive.
pub struct Answer {
    /// Their columns.
    pub schema: SchemaRef,
    /// The rows; ends at the first error.
    pub batches: BoxStream<'static, Result<RecordBatch, ClientError>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// A connection to one server.
#[derive(Debug)]
pub struct Client {
    inner: FlightSqlServiceClient<Channel>,
}

impl Client {
    /// Connects to `url`, `grpc://HOST:PORT`, and sends `token` with each request.
    ///
    /// # Errors
    /// [`ClientError::Url`] or [`ClientError::Unreachable`].
    pub async fn connect(url: &str, token: Option<&str>) -> Result<Client, ClientError> {
        let address = http_address(url).ok_or_else(|| ClientError::Url {
            url: url.to_owned(),
        })?;
        let unreachable = |source| ClientError::Unreachable {
            url: url.to_owned(),
            source,
        };
        let endpoint = Endpoint::from_shared(address)
            .map_err(unreachable)?
            .connect_timeout(CONNECT_TIMEOUT);
        let channel = endpoint.connect().await.map_err(unreachable)?;
        let flight = FlightServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut inner = FlightSqlServiceClient::new_from_inner(flight);
        if let Some(token) = token {
            inner.set_token(token.trim().to_owned());
        }
        Ok(Client { inner })
    }

    /// Asks `sql` and returns its rows as they arrive. Dropping them stops the query.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's sentence, or the others if it does not speak Flight SQL.
    pub async fn query(&mut self, sql: &str) -> Result<Answer, ClientError> {
        let info = self
            .inner
            .execute(sql.to_owned(), None)
            .await
            .map_err(refusal)?;
        self.rows_of(info).await
    }

    /// As [`Client::query`], with the values of `$1`, `$2`, …, each in the type that the statement gives it.
    ///
    /// # Errors
    /// As [`Client::query`], and [`ClientError::Value`] if one is no value of its type.
    pub async fn query_with(&mut self, sql: &str, values: &[&str]) -> Result<Answer, ClientError> {
        let prepared = self.inner.prepare(sql.to_owned(), None).await;
        let mut prepared = prepared.map_err(refusal)?;
        let wrong = |source| ClientError::Value {
            source: Box::new(source),
        };
        let schema = prepared.parameter_schema()?;
        let values = query::typed(schema, values).map_err(wrong)?;
        if !values.is_empty() {
            let columns: Result<Vec<ArrayRef>, _> =
                values.iter().map(|value| value.to_array()).collect();
            let columns = columns.map_err(|error| wrong(QueryError::from_stream(error)))?;
            let row = RecordBatch::try_new(Arc::new(schema.clone()), columns);
            let row = row.map_err(FlightError::from)?;
            prepared.set_parameters(row)?;
        }
        let info = prepared.execute().await.map_err(refusal)?;
        self.rows_of(info).await
    }

    async fn rows_of(&mut self, info: FlightInfo) -> Result<Answer, ClientError> {
        let FlightInfo { endpoint, .. } = info;
        let endpoints = endpoint.len();
        let ticket = endpoint
            .into_iter()
            .next()
            .and_then(|endpoint| endpoint.ticket);
        let (1, Some(ticket)) = (endpoints, ticket) else {
            return Err(ClientError::Endpoints { endpoints });
        };
        let mut stream = self.inner.do_get(ticket).await.map_err(refusal)?;
        // The schema is the first message; a query that fails early fails here.
        let first = stream.try_next().await.map_err(refusal)?;
        let schema = match (&first, stream.schema()) {
            (Some(batch), _) => batch.schema(),
            (None, Some(schema)) => Arc::clone(schema),
            (None, None) => return Err(FlightError::protocol("no schema came").into()),
        };
        let batches = futures::stream::iter(first.map(Ok))
            .chain(stream.map_err(refusal))
            .boxed();
        Ok(Answer { schema, batches })
    }
}

fn refusal(error: FlightError) -> ClientError {
    match error {
        FlightError::Tonic(status) => ClientError::Refused { status },
        other => ClientError::Answer(other),
    }
}

/// The same address as tonic wants it; `None` for what is no `grpc://HOST:PORT`.
fn http_address(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    let (host, port) = (parsed.host_str()?, parsed.port()?);
    let bare = matches!(parsed.path(), "" | "/")
        && parsed.query().is_none()
        && parsed.username().is_empty();
    (bare && matches!(parsed.scheme(), "grpc" | "grpc+tcp" | "http"))
        .then(|| format!("http://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::http_address;

    #[test]
    fn an_address_names_a_scheme_a_host_and_a_port() {
        assert_eq!(
            http_address("grpc://localhost:7070").as_deref(),
            Some("http://localhost:7070")
        );
        assert_eq!(
            http_address("grpc://[::1]:7070/").as_deref(),
            Some("http://[::1]:7070")
        );
        for wrong in [
            "localhost:7070",
            "grpc://localhost",
            "grpcs://h:1",
            "grpc://h:1/path",
            "grpc://me@h:1",
            "",
        ] {
            assert_eq!(http_address(wrong), None, "{wrong}");
        }
    }
}
