//! Kine's table in MySQL, and what is added to it: `version` and `lease_id` as in SQLite, and the tables of ends.
//! Source: <https://github.com/k3s-io/kine/blob/master/pkg/drivers/mysql/mysql.go>.
//!
//! Kine's names are text in which `a` and `A` are the same, which keys are not. Here they are bytes; kine takes them as
//! well. Its numbers of four bytes become eight, as new versions of kine do it.

use super::{
    super::{
        driver::Session,
        failure::Failure,
        statement::{Row, Statement},
    },
    Endpoint,
    session::MySession,
};
use crate::Metrics;

/// The columns of kine's table.
const COLUMNS: [&str; 9] =
    ["id", "name", "created", "deleted", "create_revision", "prev_revision", "lease", "value", "old_value"];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS kine (
    id BIGINT UNSIGNED AUTO_INCREMENT, name VARBINARY(630), created INTEGER, deleted INTEGER,
    create_revision BIGINT UNSIGNED, prev_revision BIGINT UNSIGNED, lease BIGINT, value MEDIUMBLOB,
    old_value MEDIUMBLOB, PRIMARY KEY (id)) ENGINE = InnoDB";

const UPGRADE: &str = "ALTER TABLE kine MODIFY id BIGINT UNSIGNED AUTO_INCREMENT NOT NULL, MODIFY name VARBINARY(630),
    MODIFY create_revision BIGINT UNSIGNED, MODIFY prev_revision BIGINT UNSIGNED, MODIFY lease BIGINT";

/// Indexes by name. The unique one is what keeps writes of kine apart, should it run beside this.
const INDEXES: [(&str, &str); 3] = [
    ("kine_name_id_index", "CREATE INDEX kine_name_id_index ON kine (name, id)"),
    (
        "kine_name_prev_revision_uindex",
        "CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision)",
    ),
    ("kine_lease_id_index", "CREATE INDEX kine_lease_id_index ON kine (lease_id)"),
];

const REST: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS kine_lease (id BIGINT PRIMARY KEY, expires BIGINT NOT NULL,
        INDEX kine_lease_expires_index (expires)) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS kine_lease_grant (id BIGINT PRIMARY KEY, ttl BIGINT NOT NULL, expires BIGINT NOT NULL)
        ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS kine_clock (set_at BIGINT NOT NULL) ENGINE = InnoDB",
    "DELETE old FROM kine AS old JOIN (SELECT MAX(id) AS id FROM kine WHERE name = 'compact_rev_key') AS kept
        WHERE old.name = 'compact_rev_key' AND old.id <> kept.id",
    "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value)
        SELECT 'compact_rev_key', 1, 0, 0, 0, 0, '' FROM (SELECT 1 AS one) AS one
        WHERE NOT EXISTS (SELECT 1 FROM (SELECT id FROM kine WHERE name = 'compact_rev_key') AS there)",
];

/// Makes what is missing, while other servers wait for it.
pub(super) async fn prepare(endpoint: &Endpoint, metrics: &Metrics) -> Result<(), Failure> {
    let mut session = match MySession::connect(endpoint, true, metrics).await {
        Err(Failure::Schema(_)) => {
            let mut session = MySession::connect(endpoint, false, metrics).await?;
            let name = endpoint.database.replace('`', "``");
            execute(&mut session, format!("CREATE DATABASE IF NOT EXISTS `{name}`")).await?;
            tracing::info!(server = endpoint.server, database = endpoint.database, "made the database");
            MySession::connect(endpoint, true, metrics).await?
        }
        connected => connected?,
    };
    // Goes with the connection.
    execute(&mut session, "SELECT GET_LOCK(CONCAT('kine-', MD5(DATABASE())), 60)").await?;
    let columns = execute(
        &mut session,
        "SELECT CAST(column_name AS BINARY), CAST(data_type AS BINARY) FROM information_schema.COLUMNS
         WHERE table_schema = DATABASE() AND table_name = 'kine'",
    )
    .await?;
    let columns = columns.iter().map(|row| Ok((text(row, 0)?, text(row, 1)?))).collect::<Result<Vec<_>, Failure>>()?;
    let of = |name: &str| columns.iter().find(|column| column.0.eq_ignore_ascii_case(name));
    if columns.is_empty() {
        execute(&mut session, TABLE).await?;
    } else {
        if let Some(missing) = COLUMNS.iter().find(|name| of(name).is_none()) {
            return Err(Failure::Schema(format!("the table `kine` has no column `{missing}`")));
        }
        let old = |name: &str, expected: &str| of(name).is_some_and(|(_, of)| !of.eq_ignore_ascii_case(expected));
        let numbers = ["id", "create_revision", "prev_revision", "lease"];
        if old("name", "varbinary") || numbers.iter().any(|name| old(name, "bigint")) {
            tracing::info!("bringing the table of an older kine up to date; this may take a moment");
            execute(&mut session, UPGRADE).await?;
        }
    }
    for column in ["version", "lease_id"] {
        if of(column).is_none() {
            execute(&mut session, format!("ALTER TABLE kine ADD COLUMN {column} BIGINT")).await?;
        }
    }
    let indexes = execute(
        &mut session,
        "SELECT DISTINCT CAST(index_name AS BINARY) FROM information_schema.STATISTICS
         WHERE table_schema = DATABASE() AND table_name = 'kine'",
    )
    .await?;
    let indexes = indexes.iter().map(|row| text(row, 0)).collect::<Result<Vec<_>, Failure>>()?;
    for (name, create) in INDEXES {
        if !indexes.iter().any(|index| index == name) {
            execute(&mut session, create).await?;
        }
    }
    for statement in REST {
        execute(&mut session, statement).await?;
    }
    Ok(())
}

async fn execute(session: &mut MySession, sql: impl Into<std::borrow::Cow<'static, str>>) -> Result<Vec<Row>, Failure> {
    Ok(session.run(vec![Statement::plain(sql)]).await?.pop().unwrap_or_default())
}

fn text(row: &Row, column: usize) -> Result<String, Failure> {
    Ok(String::from_utf8_lossy(&row.bytes(column)?.unwrap_or_default()).into_owned())
}
