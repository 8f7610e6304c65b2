//! Arrow Flight SQL: statements, prepared statements with parameters, and what the server says of its tables.
//!
//! A ticket holds the statement itself, so nothing is kept between a call for a plan and the call for its rows, and
//! dropping a stream drops its query. What writes, and what needs a transaction, is refused with a sentence.
//! Freshness is the client's choice by the header `alluvium-freshness`: `strong` (the default), or a bound in seconds.
//!
//! Answers are sent with every column nullable: a planned and a run query may differ in that, and drivers compare.

mod catalog;
mod handle;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::SqlInfoData;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, CommandGetCatalogs, CommandGetDbSchemas,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc,
    Ticket,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use query::{Engine, Freshness, QueryError, ScalarValue, SendableRecordBatchStream, TableInfo};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

pub(crate) use handle::HandleError;

use crate::{error, metrics};
use handle::Handle;

/// The header by which a client chooses how fresh an answer must be.
const FRESHNESS_HEADER: &str = "alluvium-freshness";

/// The most messages that a binding of parameters may take.
const BINDING_MESSAGES_MAX: usize = 16;

const READ_ONLY: &str = "this server answers queries; it takes no updates over Flight SQL";
const NO_TRANSACTIONS: &str = "there are no transactions: each query reads one consistent view";

/// The service, one for all connections.
pub(crate) struct FlightSql {
    engine: Arc<Engine>,
}

type DataStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send + 'static>>;
type Answer<T> = Result<Response<T>, Status>;

impl FlightSql {
    pub(crate) fn new(engine: Arc<Engine>) -> FlightSql {
        FlightSql { engine }
    }

    /// The columns that `sql` will have.
    async fn plan(&self, sql: &str) -> Result<SchemaRef, Status> {
        let (columns, _) = self
            .engine
            .plan_schema(sql)
            .await
            .map_err(|error| error::query_status(&error))?;
        Ok(as_sent(&columns))
    }

    async fn tables(&self) -> Result<Vec<TableInfo>, Status> {
        self.engine
            .tables()
            .await
            .map_err(|error| error::query_status(&error))
    }

    async fn run(
        &self,
        sql: &str,
        parameters: Vec<ScalarValue>,
        metadata: &MetadataMap,
    ) -> Answer<DataStream> {
        let arrived = Instant::now();
        let freshness = freshness(metadata)?;
        let batches = self.engine.query(sql, parameters, freshness).await;
        let batches = batches.map_err(|error| error::query_status(&error))?;
        Ok(Response::new(send(batches, arrived)))
    }
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = FlightSql;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        metrics::request("get_flight_info_statement");
        refuse_transaction(query.transaction_id.as_ref())?;
        freshness(request.metadata())?;
        let schema = self.plan(&query.query).await?;
        let ticket = TicketStatementQuery {
            statement_handle: query.query.into_bytes().into(),
        };
        info(Some(&schema), &ticket, request.into_inner())
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Answer<DataStream> {
        metrics::request("do_get_statement");
        let sql = std::str::from_utf8(&ticket.statement_handle);
        let sql = sql.map_err(|_| error::request_status("this is no ticket of a statement"))?;
        self.run(sql, Vec::new(), request.metadata()).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        metrics::request("create_prepared_statement");
        refuse_transaction(query.transaction_id.as_ref())?;
        let handle = Handle::new(query.query).map_err(|error| error::handle_status(&error))?;
        let planned = self.engine.plan_schema(&handle.sql).await;
        let (columns, parameters) = planned.map_err(|error| error::query_status(&error))?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.to_bytes(),
            dataset_schema: schema_bytes(&as_sent(&columns))?,
            parameter_schema: if parameters.fields().is_empty() {
                Bytes::new()
            } else {
                schema_bytes(&parameters)?
            },
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        // Nothing was kept.
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        metrics::request("bind_prepared_statement");
        let handle = read_handle(&query)?;
        let row = read_parameters(request.into_inner()).await?;
        let bound = match row {
            Some(row) => handle
                .bind(&row)
                .map_err(|error| error::handle_status(&error))?,
            None => handle,
        };
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(bound.to_bytes()),
        })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        metrics::request("get_flight_info_prepared_statement");
        freshness(request.metadata())?;
        let handle = read_handle(&query)?;
        // A bound parameter may decide the type of a column, as in `SELECT $1`: the rows bring their schema then.
        let schema = if handle.is_bound() {
            None
        } else {
            Some(self.plan(&handle.sql).await?)
        };
        info(schema.as_ref(), &query, request.into_inner())
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Answer<DataStream> {
        metrics::request("do_get_prepared_statement");
        let handle = read_handle(&query)?;
        let parameters = handle
            .parameters()
            .map_err(|error| error::handle_status(&error))?;
        self.run(&handle.sql, parameters, request.metadata()).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(
            Some(&query.into_builder().schema()),
            &query,
            request.into_inner(),
        )
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        _request: Request<Ticket>,
    ) -> Answer<DataStream> {
        metrics::request("get_catalogs");
        one_batch(catalog::catalogs(query))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(
            Some(&query.clone().into_builder().schema()),
            &query,
            request.into_inner(),
        )
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _request: Request<Ticket>,
    ) -> Answer<DataStream> {
        metrics::request("get_db_schemas");
        one_batch(catalog::schemas(query, &self.tables().await?))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(
            Some(&query.clone().into_builder().schema()),
            &query,
            request.into_inner(),
        )
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        _request: Request<Ticket>,
    ) -> Answer<DataStream> {
        metrics::request("get_tables");
        one_batch(catalog::tables(query, &self.tables().await?))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(
            Some(&query.into_builder().schema()),
            &query,
            request.into_inner(),
        )
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _request: Request<Ticket>,
    ) -> Answer<DataStream> {
        metrics::request("get_table_types");
        one_batch(catalog::table_types(query, &self.tables().await?))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let schema = sql_info()?.schema();
        info(Some(&schema), &query, request.into_inner())
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _request: Request<Ticket>,
    ) -> Answer<DataStream> {
        metrics::request("get_sql_info");
        one_batch(query.into_builder(&sql_info()?).build())
    }

    async fn do_put_statement_update(
        &self,
        _ticket: CommandStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(error::unsupported(READ_ONLY))
    }

    async fn do_put_statement_ingest(
        &self,
        _ticket: CommandStatementIngest,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(error::unsupported(READ_ONLY))
    }

    async fn do_put_prepared_statement_update(
        &self,
        _query: CommandPreparedStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(error::unsupported(READ_ONLY))
    }

    async fn do_action_begin_transaction(
        &self,
        _query: ActionBeginTransactionRequest,
        _request: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(error::unsupported(NO_TRANSACTIONS))
    }

    async fn do_action_begin_savepoint(
        &self,
        _query: ActionBeginSavepointRequest,
        _request: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        Err(error::unsupported(NO_TRANSACTIONS))
    }

    async fn do_action_cancel_query(
        &self,
        _query: ActionCancelQueryRequest,
        _request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        Err(error::unsupported(
            "a query ends when its stream is closed; there is nothing else to cancel",
        ))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}

/// Turns batches into messages, counts them, and gives an error its code.
fn send(batches: SendableRecordBatchStream, arrived: Instant) -> DataStream {
    let schema = as_sent(&batches.schema());
    let batches = batches.inspect_ok(|batch| metrics::rows(batch.num_rows()));
    let batches = batches
        .map_err(|error| FlightError::from(error::query_status(&QueryError::from_stream(error))));
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .build(batches);
    let mut waiting = true;
    Box::pin(messages.map_err(Status::from).inspect_ok(move |message| {
        metrics::bytes(message.data_body.len());
        // The first message is the schema, which is there before any work.
        if waiting && !message.data_body.is_empty() {
            waiting = false;
            metrics::first_batch(arrived.elapsed());
        }
    }))
}

fn one_batch(batch: Result<RecordBatch, FlightError>) -> Answer<DataStream> {
    let batch = batch.map_err(Status::from)?;
    let encoder = FlightDataEncoderBuilder::new().with_schema(batch.schema());
    let messages = encoder
        .build(futures::stream::iter([Ok(batch)]))
        .map_err(Status::from);
    Ok(Response::new(Box::pin(messages)))
}

fn sql_info() -> Result<SqlInfoData, Status> {
    catalog::sql_info().map_err(Status::from)
}

/// One endpoint without a location: the rows are where the question was asked.
fn info(
    schema: Option<&SchemaRef>,
    ticket: &impl ProstMessageExt,
    descriptor: FlightDescriptor,
) -> Answer<FlightInfo> {
    let ticket = Ticket::new(ticket.as_any().encode_to_vec());
    let info = FlightInfo::new()
        .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
        .with_descriptor(descriptor)
        .with_ordered(true);
    let info = match schema {
        Some(schema) => info
            .try_with_schema(schema)
            .map_err(|error| error::encoding_status(&error))?,
        None => info,
    };
    Ok(Response::new(info))
}

/// The schema as it goes over the wire: all columns nullable, no metadata.
fn as_sent(schema: &Schema) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let options = arrow::ipc::writer::IpcWriteOptions::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    message
        .map(|message| message.0)
        .map_err(|error| error::encoding_status(&error))
}

fn read_handle(query: &CommandPreparedStatementQuery) -> Result<Handle, Status> {
    Handle::from_bytes(&query.prepared_statement_handle)
        .map_err(|error| error::handle_status(&error))
}

/// The parameters' only batch with rows; `None` if no batch came at all.
async fn read_parameters(stream: PeekableFlightDataStream) -> Result<Option<RecordBatch>, Status> {
    let messages = stream.take(BINDING_MESSAGES_MAX).map_err(FlightError::from);
    let batches: Vec<RecordBatch> = FlightRecordBatchStream::new_from_flight_data(messages)
        .try_collect()
        .await?;
    match batches.as_slice() {
        [] => Ok(None),
        [batch] => Ok(Some(batch.clone())),
        [first, ..] => {
            let whole = arrow::compute::concat_batches(&first.schema(), &batches);
            whole
                .map(Some)
                .map_err(|error| error::request_status(&error.to_string()))
        }
    }
}

fn refuse_transaction(id: Option<&Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(error::unsupported(NO_TRANSACTIONS)),
        _ => Ok(()),
    }
}

fn freshness(metadata: &MetadataMap) -> Result<Freshness, Status> {
    let Some(value) = metadata.get(FRESHNESS_HEADER) else {
        return Ok(Freshness::Strong);
    };
    let text = value.to_str().unwrap_or_default();
    if text.eq_ignore_ascii_case("strong") {
        return Ok(Freshness::Strong);
    }
    let seconds = text
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let Some(bound) = seconds else {
        let reason = format!(
            "the header {FRESHNESS_HEADER} is `strong` or a number of seconds, not {text:?}"
        );
        return Err(error::request_status(&reason));
    };
    Ok(Freshness::Within(bound))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn header(value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(FRESHNESS_HEADER, value.parse().unwrap());
        metadata
    }

    #[test]
    fn freshness_is_strong_unless_a_bound_is_given() {
        assert!(matches!(
            freshness(&MetadataMap::new()).unwrap(),
            Freshness::Strong
        ));
        assert!(matches!(
            freshness(&header("strong")).unwrap(),
            Freshness::Strong
        ));
        let bound = freshness(&header("2.5")).unwrap();
        assert!(matches!(bound, Freshness::Within(bound) if bound == Duration::from_millis(2500)));
        for wrong in ["weak", "-1", "NaN", ""] {
            assert!(freshness(&header(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_transaction_is_refused_and_an_empty_id_is_none() {
        assert!(refuse_transaction(None).is_ok());
        assert!(refuse_transaction(Some(&Bytes::new())).is_ok());
        assert_eq!(
            refuse_transaction(Some(&Bytes::from_static(b"1")))
                .unwrap_err()
                .code(),
            tonic::Code::Unimplemented
        );
    }
}
