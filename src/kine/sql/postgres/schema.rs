//! Kine's table in PostgreSQL, and what is added to it: `version` and `lease_id` as in SQLite, and the tables of ends.
//! Source: <https://github.com/k3s-io/kine/blob/master/pkg/drivers/pgsql/pgsql.go>.
//!
//! Databases of old versions of kine have numbers of four bytes, and names in the order of some language; they get what
//! new ones have, as new versions of kine do it.

use tokio_postgres::{Client, error::SqlState};

use super::{
    super::failure::Failure,
    Endpoint,
    session::{connect, failure},
};

/// Where a database is made from, since one has to be connected to some other.
const MAINTENANCE: &str = "postgres";

/// The columns of kine's table.
const COLUMNS: [&str; 9] =
    ["id", "name", "created", "deleted", "create_revision", "prev_revision", "lease", "value", "old_value"];

const TABLE: &str = r#"
CREATE TABLE IF NOT EXISTS kine (
    id BIGSERIAL PRIMARY KEY, name TEXT COLLATE "C", created INTEGER, deleted INTEGER, create_revision BIGINT,
    prev_revision BIGINT, lease BIGINT, value BYTEA, old_value BYTEA);"#;

const UPGRADE: &str = r#"
ALTER TABLE kine ALTER COLUMN id SET DATA TYPE BIGINT, ALTER COLUMN create_revision SET DATA TYPE BIGINT,
    ALTER COLUMN prev_revision SET DATA TYPE BIGINT, ALTER COLUMN lease SET DATA TYPE BIGINT,
    ALTER COLUMN name SET DATA TYPE TEXT COLLATE "C" USING name::TEXT COLLATE "C";
ALTER SEQUENCE kine_id_seq AS BIGINT;"#;

/// The unique index is what keeps writes of kine apart, should it run beside this.
const REST: &str = "
ALTER TABLE kine ADD COLUMN IF NOT EXISTS version BIGINT;
ALTER TABLE kine ADD COLUMN IF NOT EXISTS lease_id BIGINT;
CREATE INDEX IF NOT EXISTS kine_list_query_index ON kine (name, id DESC, deleted);
CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision);
CREATE INDEX IF NOT EXISTS kine_lease_id_index ON kine (lease_id) WHERE lease_id > 0;
CREATE TABLE IF NOT EXISTS kine_lease (id BIGINT PRIMARY KEY, expires BIGINT NOT NULL);
CREATE INDEX IF NOT EXISTS kine_lease_expires_index ON kine_lease (expires);
CREATE TABLE IF NOT EXISTS kine_lease_grant (id BIGINT PRIMARY KEY, ttl BIGINT NOT NULL, expires BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS kine_clock (set_at BIGINT NOT NULL);
SELECT setval('kine_id_seq', newest.id) FROM (SELECT MAX(id) AS id FROM kine) AS newest, kine_id_seq
    WHERE newest.id > kine_id_seq.last_value;
DELETE FROM kine WHERE name = 'compact_rev_key' AND id <> (
    SELECT id FROM kine WHERE name = 'compact_rev_key' ORDER BY prev_revision DESC, id DESC LIMIT 1);
INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value)
    SELECT 'compact_rev_key', 1, 0, 0, 0, 0, '' WHERE NOT EXISTS (SELECT 1 FROM kine WHERE name = 'compact_rev_key');";

/// Makes the endpoint's database.
pub(super) async fn create_database(endpoint: &Endpoint) -> Result<(), Failure> {
    let client = connect(endpoint, Some(MAINTENANCE), None).await?;
    let name = endpoint.database.replace('"', "\"\"");
    match client.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await {
        // Another server was first.
        Err(error) if matches!(error.code(), Some(&SqlState::DUPLICATE_DATABASE | &SqlState::UNIQUE_VIOLATION)) => {
            Ok(())
        }
        Err(error) => Err(failure(&error)),
        Ok(()) => {
            tracing::info!(server = endpoint.server, database = endpoint.database, "made the database");
            Ok(())
        }
    }
}

/// Makes what is missing, while other servers wait for it.
pub(super) async fn prepare(client: &Client, lock: i64) -> Result<(), Failure> {
    let failed = |error: tokio_postgres::Error| failure(&error);
    client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({lock});")).await.map_err(failed)?;
    let there = client
        .query(
            "SELECT a.attname::text, format_type(a.atttypid, NULL), COALESCE(c.collname::text, '')
             FROM pg_attribute AS a LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
             WHERE a.attrelid = to_regclass('kine') AND a.attnum > 0 AND NOT a.attisdropped",
            &[],
        )
        .await
        .map_err(failed)?;
    let columns: Vec<(String, String, String)> = there.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let of = |name: &str| columns.iter().find(|column| column.0 == name);
    if columns.is_empty() {
        client.batch_execute(TABLE).await.map_err(failed)?;
    } else {
        if let Some(missing) = COLUMNS.iter().find(|name| of(name).is_none()) {
            return Err(Failure::Schema(format!("the table \"kine\" has no column \"{missing}\"")));
        }
        let old = |name: &str, expected: &str| of(name).is_some_and(|(_, of, _)| of != expected);
        if of("name").is_some_and(|(_, _, collation)| collation != "C")
            || ["id", "create_revision", "prev_revision", "lease"].iter().any(|name| old(name, "bigint"))
        {
            tracing::info!("bringing the table of an older kine up to date; this may take a moment");
            client.batch_execute(UPGRADE).await.map_err(failed)?;
        }
    }
    client.batch_execute(REST).await.map_err(failed)?;
    client.batch_execute("COMMIT").await.map_err(failed)
}
