//! Keys with a time to live. A row of `kine_lease` says when the row of the same id in `kine` ends; it goes with the
//! value it is for, so the table holds what is alive and nothing else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::{name, op::Op};
use crate::Revision;

/// How many keys are deleted in one transaction.
const AT_ONCE: i64 = 256;
/// Keys that end within this time of each other are deleted together.
const APART: Duration = Duration::from_secs(1);
/// After a failure (a full disk), the time until the next try.
const RETRY: Duration = Duration::from_secs(5);
/// The wall clock was set, rather than slewed, if it moved this much (in milliseconds) against the monotonic one.
const CLOCK_SET: i64 = 2000;

/// When the next key ends.
pub(super) struct Leases {
    /// Milliseconds since the epoch.
    next: Option<i64>,
    not_before: Instant,
    clock: (i64, Instant),
}

impl Leases {
    /// Takes up the leases that are in the file.
    pub(super) fn open(conn: &Connection) -> rusqlite::Result<Self> {
        let now = wall_clock();
        // Kine, run on this file in between, knows nothing of this table: it may have written the keys again.
        conn.execute(
            "DELETE FROM kine_lease WHERE NOT EXISTS (
               SELECT 1 FROM kine AS k WHERE k.id = kine_lease.id
                 AND NOT EXISTS (SELECT 1 FROM kine AS newer WHERE newer.name = k.name AND newer.id > k.id))",
            [],
        )?;
        // Rows that kine wrote: their time starts now, as it does on each start of kine.
        conn.execute(
            "INSERT INTO kine_lease (id, expires)
             SELECT id, ?1 + MIN(lease, 1 << 40) * 1000 FROM kine AS k INDEXED BY kine_lease_index
             WHERE lease > 0 AND deleted = 0 AND COALESCE(lease_id, 0) = 0 AND id NOT IN (SELECT id FROM kine_lease)
               AND NOT EXISTS (SELECT 1 FROM kine AS newer WHERE newer.name = k.name AND newer.id > k.id)",
            [now],
        )?;
        // Nothing lives longer than it was given: the clock was ahead when it was written.
        conn.execute(
            "UPDATE kine_lease SET expires = MIN(expires, ?1 + MIN(k.lease, 1 << 40) * 1000)
             FROM kine AS k WHERE k.id = kine_lease.id",
            [now],
        )?;
        Ok(Self { next: first(conn)?, not_before: Instant::now(), clock: (now, Instant::now()) })
    }

    /// The time now, in milliseconds since the epoch, after ends have followed a clock that was set. Boards without a
    /// clock of their own start in 1970 and jump by decades when NTP answers; no key may end of that.
    pub(super) fn now(&mut self, conn: &Connection) -> rusqlite::Result<i64> {
        let (wall, monotonic) = (wall_clock(), Instant::now());
        let passed = i64::try_from((monotonic - self.clock.1).as_millis()).unwrap_or(i64::MAX);
        let set = wall - self.clock.0 - passed;
        if let Some(next) = self.next.as_mut().filter(|_| set.abs() > CLOCK_SET) {
            conn.execute("UPDATE kine_lease SET expires = expires + ?1", [set])?;
            *next += set;
        }
        self.clock = (wall, monotonic);
        Ok(wall)
    }

    /// A key was written that ends at `end`.
    pub(super) fn note(&mut self, end: i64) {
        self.next = Some(self.next.map_or(end, |next| next.min(end)));
    }

    /// How long until [`Leases::expired`] is worth a call.
    pub(super) fn wait(&self) -> Option<Duration> {
        let until = u64::try_from(self.next? - wall_clock()).unwrap_or(0);
        Some(Duration::from_millis(until).max(self.not_before.saturating_duration_since(Instant::now())))
    }

    /// Deletions of the keys whose time has passed, if the time of one has. If they succeed, [`Leases::settle`] is to
    /// be called; else they come again.
    pub(super) fn expired(&mut self, conn: &Connection) -> rusqlite::Result<Option<Vec<Op>>> {
        if self.next.is_none() {
            return Ok(None);
        }
        // If the clock was set, nothing may be due after all; or much, while nobody writes.
        let now = self.now(conn)?;
        if self.wait() != Some(Duration::ZERO) {
            return Ok(None);
        }
        self.not_before = Instant::now() + RETRY;
        let mut statement = conn.prepare_cached(
            "SELECT kine.id, kine.name FROM kine_lease JOIN kine ON kine.id = kine_lease.id
             WHERE kine_lease.expires <= ?1 ORDER BY kine_lease.expires LIMIT ?2",
        )?;
        let ops = statement.query_map([now, AT_ONCE], |row| {
            let key = name::key(row.get_ref(1)?.as_bytes()?);
            let expected = row.get(0)?;
            Ok(key.map(|key| Op::Delete { key, expected }))
        })?;
        ops.filter_map(Result::transpose).collect::<rusqlite::Result<Vec<Op>>>().map(Some)
    }

    /// The deletions were made: looks up when the next are due.
    pub(super) fn settle(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.next = first(conn)?;
        self.not_before = Instant::now() + APART;
        Ok(())
    }
}

/// When a key written at `now` with a time to live of `lease` seconds ends, in milliseconds since the epoch.
pub(super) fn end(now: i64, lease: i64) -> i64 {
    now.saturating_add(lease.min(1 << 40) * 1000)
}

/// Records the end of the row `id`.
pub(super) fn remember(conn: &Connection, id: Revision, end: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO kine_lease (id, expires) VALUES (?1, ?2)")?.execute([id, end])?;
    Ok(())
}

/// The row `id` is superseded: its end means nothing any more.
pub(super) fn forget(conn: &Connection, id: Revision) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM kine_lease WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn first(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT MIN(expires) FROM kine_lease")?.query_row([], |row| row.get(0))
}

fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_ends_no_key_early() {
        let mut conn = Connection::open_in_memory().unwrap();
        super::super::schema::prepare(&mut conn).unwrap();
        let mut leases = Leases::open(&conn).unwrap();
        let hour = 3_600_000;
        // The clock was an hour behind when the key was written.
        leases.clock.0 -= hour;
        let ends = end(wall_clock() - hour, 60);
        remember(&conn, 7, ends).unwrap();
        leases.note(ends);
        assert_eq!(leases.wait(), Some(Duration::ZERO));

        leases.now(&conn).unwrap();
        assert!(leases.wait().unwrap() > Duration::from_secs(50));
        assert!(first(&conn).unwrap().unwrap() > wall_clock() + 50_000);
        let shifted = leases.next;
        leases.now(&conn).unwrap();
        assert_eq!(leases.next, shifted, "once is enough");
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_no_key_longer_though_nobody_writes() {
        let mut conn = Connection::open_in_memory().unwrap();
        super::super::schema::prepare(&mut conn).unwrap();
        let mut leases = Leases::open(&conn).unwrap();
        let hour = 3_600_000;
        // The clock was an hour ahead when the key was written.
        leases.clock.0 += hour;
        let ends = end(wall_clock() + hour, 60);
        remember(&conn, 7, ends).unwrap();
        leases.note(ends);
        assert!(leases.wait().unwrap() > Duration::from_secs(3600));

        assert!(leases.expired(&conn).unwrap().is_none());
        assert!(leases.wait().unwrap() <= Duration::from_secs(60));
    }
}
