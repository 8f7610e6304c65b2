"""Drives a server through the ADBC Flight SQL driver and prints what it saw as one JSON object.

Usage: session.py grpc://HOST:PORT, the token in ALLUVIUM_TOKEN.
"""

import json
import os
import sys

import adbc_driver_flightsql.dbapi as flight_sql
from adbc_driver_flightsql import ConnectionOptions, DatabaseOptions

MANY_ROWS = """
SELECT a.did, b.collection, c.rkey
FROM atproto.records a CROSS JOIN atproto.records b CROSS JOIN atproto.records c
LIMIT 100000
"""


def error_of(ask):
    """The text of the error that `ask` ends in; it has to."""
    try:
        ask()
    except Exception as error:  # The driver's own classes; the test looks at the text.
        return str(error)
    raise AssertionError("no error came")


def main(uri):
    options = {DatabaseOptions.AUTHORIZATION_HEADER.value: "Bearer " + os.environ["ALLUVIUM_TOKEN"]}
    saw = {}
    with flight_sql.connect(uri, db_kwargs=options, autocommit=True) as connection:
        saw["server"] = connection.adbc_get_info()["vendor_name"]
        objects = connection.adbc_get_objects(depth="columns").read_all().to_pylist()
        saw["tables"] = {
            schema["db_schema_name"] + "." + table["table_name"]: [
                column["column_name"] for column in table["table_columns"]
            ]
            for catalog in objects
            for schema in catalog["catalog_db_schemas"]
            for table in schema["db_schema_tables"]
        }
        saw["table_types"] = sorted(connection.adbc_get_table_types())
        with connection.cursor() as cursor:
            saw["parameters"] = [
                str(field.type) for field in cursor.adbc_prepare("SELECT * FROM atproto.records WHERE collection = $1")
            ]
            count = "SELECT count(*) AS n FROM atproto.records WHERE collection = $1"
            saw["counts"] = []
            for collection in ["app.bsky.feed.post", "app.bsky.feed.like", "no.such.collection"]:
                cursor.execute(count, [collection])
                saw["counts"].append(cursor.fetchone()[0])
            cursor.execute("SELECT $1 AS a, $2 AS b", ["text", 7])
            saw["echo"] = list(cursor.fetchone())

            cursor.execute(MANY_ROWS)
            batches = list(cursor.fetch_record_batch())
            saw["rows"] = sum(batch.num_rows for batch in batches)
            saw["batches"] = len(batches)

            saw["errors"] = {
                "column": error_of(lambda: cursor.execute("SELECT nothing FROM atproto.records")),
                "table": error_of(lambda: cursor.execute("SELECT * FROM atproto.record")),
                "syntax": error_of(lambda: cursor.execute("SELEC 1")),
                "write": error_of(lambda: cursor.execute("DELETE FROM atproto.records")),
                "update": error_of(lambda: cursor.executescript("DELETE FROM atproto.records")),
                "parameters": error_of(lambda: cursor.execute(count, ["a", "b"])),
                "late": error_of(
                    lambda: (
                        cursor.execute("SELECT 1 / (length(did) - length(did)) FROM atproto.records"),
                        cursor.fetchall(),
                    )
                ),
            }
            # The connection is still good.
            cursor.execute("SELECT 1 AS one")
            saw["after"] = cursor.fetchone()[0]
        with connection.cursor() as cursor:
            cursor.adbc_statement.set_options(
                **{ConnectionOptions.RPC_CALL_HEADER_PREFIX.value + "alluvium-freshness": "30"}
            )
            cursor.execute("SELECT count(*) FROM atproto.records")
            saw["bounded"] = cursor.fetchone()[0]
    wrong = {DatabaseOptions.AUTHORIZATION_HEADER.value: "Bearer wrong"}

    def ask_without_right():
        with flight_sql.connect(uri, db_kwargs=wrong, autocommit=True) as stranger, stranger.cursor() as cursor:
            cursor.execute("SELECT 1")

    saw["errors"]["token"] = error_of(ask_without_right)
    json.dump(saw, sys.stdout)


main(sys.argv[1])
