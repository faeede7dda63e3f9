//! What is read from one state of the tables: a key, a range, the events of a stretch of history.

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    driver::Driver,
    failure::Failure,
    pool::Pool,
    statement::{ENTRY, Entry, Row, Statement},
};
use crate::{
    Compare, Error, Event, KeyValue, LeaseId, Range, Revision, Txn, TxnOp, TxnResponse, TxnResult,
    watch::{History, Interval, Position, Stretch},
};

/// The upper bound for a read of "now".
pub(super) const NOW: Revision = Revision::MAX;

/// A question within a larger exchange: the statements that ask it.
pub(super) struct RangeQuery {
    pub(super) start: Bytes,
    pub(super) end: Bytes,
    /// 0 or less: none.
    pub(super) limit: i64,
    /// 0: now.
    pub(super) revision: Revision,
}

impl RangeQuery {
    /// The statements, two of them.
    pub(super) fn statements(&self, driver: &dyn Driver) -> [Statement; 2] {
        let names = driver.names(&self.start, &self.end);
        let upto = if self.revision == 0 { NOW } else { self.revision };
        let limit = (self.limit > 0).then_some(self.limit);
        let count = match limit {
            Some(_) => driver.count(&names, upto),
            // All are read, so they are counted as well.
            None => Statement::plain("SELECT 0"),
        };
        [driver.range(&names, upto, limit), count]
    }

    /// The answer, from the rows of the two statements.
    pub(super) fn answer(
        &self,
        driver: &dyn Driver,
        position: Position,
        rows: &[Row],
        count: &[Row],
    ) -> Result<Range, Refusal> {
        readable(self.revision, position)?;
        let mut kvs = Vec::with_capacity(rows.len());
        for row in rows {
            kvs.extend(Entry::of(driver, row, 0)?.map(|entry| entry.kv));
        }
        let read = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        let count = match self.limit > 0 {
            true => count.first().map_or(Ok(0), |row| row.int(0))?,
            false => read,
        };
        Ok(Range { revision: position.current, kvs, more: count > read, count })
    }
}

/// Why a query gives no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    Refused(Error),
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal::Failed(failure)
    }
}

/// Whether `asked` (0: now) can be read.
fn readable(asked: Revision, Position { current, compacted }: Position) -> Result<(), Refusal> {
    match asked {
        0 => Ok(()),
        _ if asked > current => Err(Refusal::Refused(Error::Future { asked, current })),
        _ if asked < compacted => Err(Refusal::Refused(Error::Compacted { asked, compacted })),
        _ => Ok(()),
    }
}

/// The position in the answer to [`Driver::position`].
pub(super) fn position(rows: &[Row]) -> Result<Position, Failure> {
    let row = rows.first().ok_or_else(|| Failure::Other("no answer to where the history stands".into()))?;
    Ok(Position { current: row.int(0)?, compacted: row.int(1)? })
}

impl Pool {
    /// Executes statements on one state of everything. Returns where its history stands, and the rows of each.
    pub(super) async fn read(&self, questions: Vec<Statement>) -> Result<(Position, Vec<Vec<Row>>), Error> {
        let mut statements = self.driver().begin_read();
        let before = statements.len();
        let asked = questions.len();
        statements.push(self.driver().position());
        statements.extend(questions);
        statements.push(Statement::plain("COMMIT"));
        let mut answers = self.run("read", &statements).await?;
        let position = position(&answers[before]).map_err(|failure| self.error(Refusal::Failed(failure)))?;
        Ok((position, answers.drain(before + 1..before + 1 + asked).collect()))
    }

    pub(super) fn error(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Refused(error) => error,
            Refusal::Failed(failure) => failure.to_error(self.driver().server(), "read"),
        }
    }

    pub(super) async fn position(&self) -> Result<Position, Error> {
        let answers = self.run("look where the history stands", &[self.driver().position()]).await?;
        position(&answers[0]).map_err(|failure| self.error(failure.into()))
    }

    pub(super) async fn get(&self, key: &Bytes, revision: Revision) -> Result<(Position, Option<KeyValue>), Error> {
        let upto = if revision == 0 { NOW } else { revision };
        // What can't be stored is not there.
        let question = match self.driver().refuses(key) {
            Some(_) => Vec::new(),
            None => vec![self.driver().get(key, upto)],
        };
        let (position, answers) = self.read(question).await?;
        let kv = || -> Result<_, Refusal> {
            readable(revision, position)?;
            let Some(row) = answers.first().and_then(|rows| rows.first()) else { return Ok(None) };
            Ok(Entry::of(self.driver(), row, 0)?.filter(|entry| !entry.deleted).map(|entry| entry.kv))
        };
        Ok((position, kv().map_err(|refusal| self.error(refusal))?))
    }

    pub(super) async fn range(&self, query: RangeQuery) -> Result<(Position, Range), Error> {
        let (position, answers) = self.read(query.statements(self.driver()).into()).await?;
        let range =
            query.answer(self.driver(), position, &answers[0], &answers[1]).map_err(|refusal| self.error(refusal))?;
        Ok((position, range))
    }

    pub(super) async fn count(&self, start: &[u8], end: &[u8], revision: Revision) -> Result<(Position, i64), Error> {
        let names = self.driver().names(start, end);
        let upto = if revision == 0 { NOW } else { revision };
        let (position, answers) = self.read(vec![self.driver().count(&names, upto)]).await?;
        let count = || -> Result<i64, Refusal> {
            readable(revision, position)?;
            Ok(answers[0].first().map_or(Ok(0), |row| row.int(0))?)
        };
        Ok((position, count().map_err(|refusal| self.error(refusal))?))
    }

    /// Executes a transaction that writes nothing.
    pub(super) async fn read_txn(&self, txn: &Txn) -> Result<(Position, TxnResponse), Error> {
        let compared: Vec<_> = txn.compare.iter().map(compared).collect();
        let ranges = |ops: &[TxnOp]| ops.iter().filter_map(range_of).collect::<Vec<_>>();
        let (success, failure) = (ranges(&txn.success), ranges(&txn.failure));
        let all = compared.iter().chain(&success).chain(&failure);
        let (position, answers) = self.read(all.flat_map(|query| query.statements(self.driver())).collect()).await?;
        let answer = || -> Result<TxnResponse, Refusal> {
            let mut answers = answers.chunks(2);
            let mut next = |query: &RangeQuery| match answers.next() {
                Some([rows, count]) => query.answer(self.driver(), position, rows, count),
                _ => Err(Failure::Other("an answer is missing".into()).into()),
            };
            let mut succeeded = true;
            for (compare, query) in txn.compare.iter().zip(&compared) {
                succeeded &= compare.holds(&next(query)?.kvs);
            }
            let mut results = Vec::new();
            // The ranges of the branch that is not taken are not looked at: they may ask for what can't be read.
            let skipped = if succeeded { 0 } else { success.len() };
            let mut answers = answers.skip(skipped);
            for query in if succeeded { &success } else { &failure } {
                let Some([rows, count]) = answers.next() else {
                    return Err(Failure::Other("an answer is missing".into()).into());
                };
                results.push(TxnResult::Range(query.answer(self.driver(), position, rows, count)?));
            }
            Ok(TxnResponse { revision: position.current, succeeded, results })
        };
        Ok((position, answer().map_err(|refusal| self.error(refusal))?))
    }

    pub(super) async fn attached(&self, lease: LeaseId) -> Result<Vec<Bytes>, Error> {
        let answers = self.run("list a lease's keys", &[self.driver().attached(lease)]).await?;
        keys(self.driver(), &answers[0]).map_err(|failure| self.error(failure.into()))
    }

    /// Rows after `after`, for whoever follows the whole log: which revisions there are, and the events of them.
    pub(super) async fn follow(
        &self,
        after: Revision,
        limit: i64,
    ) -> Result<(Position, Vec<(Revision, Option<Event>)>), Error> {
        let names = self.driver().names(b"", &crate::UNBOUNDED);
        let (position, answers) = self.read(vec![self.driver().events(&names, after, limit)]).await?;
        let rows =
            answers[0].iter().map(|row| Ok((row.int(0)?, event(self.driver(), row)?))).collect::<Result<_, Failure>>();
        Ok((position, rows.map_err(|failure| self.error(failure.into()))?))
    }
}

/// The keys of entries.
pub(super) fn keys(driver: &dyn Driver, entries: &[Row]) -> Result<Vec<Bytes>, Failure> {
    let names = entries.iter().filter_map(|row| row.bytes(1).transpose());
    names.filter_map(|name| name.map(|name| driver.key(&name)).transpose()).collect()
}

/// The keys a condition is on.
pub(super) fn compared(compare: &Compare) -> RangeQuery {
    RangeQuery { start: compare.start.clone(), end: compare.end.clone(), limit: 0, revision: 0 }
}

/// The range an operation asks for.
pub(super) fn range_of(op: &TxnOp) -> Option<RangeQuery> {
    let TxnOp::Range { start, end, limit, revision } = op else { return None };
    Some(RangeQuery { start: start.clone(), end: end.clone(), limit: *limit, revision: *revision })
}

#[async_trait]
impl History for Pool {
    async fn events(&self, interval: &Interval, after: Revision, limit: usize) -> Result<(Position, Stretch), Error> {
        let names = self.driver().names(&interval.start, &interval.end);
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let (position, answers) = self.read(vec![self.driver().events(&names, after, most)]).await?;
        if after < position.compacted {
            return Err(Error::Compacted { asked: after, compacted: position.compacted });
        }
        let rows = &answers[0];
        let read = || -> Result<Stretch, Failure> {
            let upto = match rows.last() {
                Some(last) if rows.len() >= limit => last.int(0)?,
                _ => position.current,
            };
            let events =
                rows.iter().filter_map(|row| event(self.driver(), row).transpose()).collect::<Result<_, _>>()?;
            Ok(Stretch { events, upto })
        };
        Ok((position, read().map_err(|failure| self.error(failure.into()))?))
    }
}

/// The event of a row of [`Driver::events`]; bookkeeping is none.
fn event(driver: &dyn Driver, row: &Row) -> Result<Option<Event>, Failure> {
    let Some(entry) = Entry::of(driver, row, 0)? else { return Ok(None) };
    let revision = entry.kv.mod_revision;
    if row.int(2)? != 0 {
        return Ok(Some(Event::Put { kv: entry.kv, previous: None }));
    }
    let superseded = Entry::of(driver, row, ENTRY + 1)?;
    let previous = match superseded {
        Some(superseded) => superseded.kv,
        // Where the superseded row is missing, kine's own copy.
        None => KeyValue {
            key: entry.kv.key.clone(),
            value: row.bytes(ENTRY + 1 + ENTRY)?.unwrap_or_default(),
            create_revision: entry.kv.create_revision,
            mod_revision: row.int(ENTRY)?,
            version: (entry.kv.version - 1).max(1),
            lease: 0,
        },
    };
    if entry.deleted {
        return Ok(Some(Event::Delete { revision, previous }));
    }
    Ok(Some(Event::Put { kv: entry.kv, previous: Some(previous) }))
}
