//! Files: their modes, their owners, damage, and the ones kine made.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn what_it_makes_is_for_its_user_alone_and_one_file_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server/db/state.db");
    let store = Sqlite::open(&path, Options::default()).unwrap();
    store.create(bytes("/a"), bytes(""), 0).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(Path::new(&format!("{}{suffix}", path.display()))), 0o600, "{suffix}");
    }
    store.close().await.unwrap();
    let mut left: Vec<_> =
        std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["state.db", "state.db.lock"]);
}

#[tokio::test]
async fn a_second_open_is_refused_until_the_first_is_closed() {
    let store = Store::new();
    match Sqlite::open(&store.path(), Options::default()).map(drop) {
        Err(Error::InUse { detail, .. }) => assert!(detail.contains(&std::process::id().to_string()), "{detail}"),
        other => panic!("{other:?}"),
    }
    store.store.create(bytes("/a"), bytes(""), 0).await.unwrap();
    store.reopen(Options::default()).await;
}

#[tokio::test]
async fn a_damaged_file_is_named_with_what_to_do() {
    let store = Store::new();
    let value = bytes("x".repeat(3000));
    for n in 0..200 {
        store.store.create(bytes(format!("/{n}")), value.clone(), 0).await.unwrap();
    }
    store.store.close().await.unwrap();
    let whole = std::fs::read(store.path()).unwrap();

    let refused = |content: &[u8]| {
        std::fs::write(store.path(), content).unwrap();
        // As after a power cut.
        std::fs::write(store.folder.path().join("state.db.lock"), "1\n").unwrap();
        match Sqlite::open(&store.path(), Options::default()).map(drop) {
            Err(Error::Corrupt { path, detail }) => {
                assert_eq!(path, store.path().display().to_string());
                assert!(detail.contains(".recover"), "{detail}");
            }
            other => panic!("{other:?}"),
        }
    };
    refused(&vec![7; 100_000]);
    refused(&whole[..whole.len() / 2]);
    let mut torn = whole.clone();
    torn[whole.len() / 2..].fill(0);
    refused(&torn);

    std::fs::write(store.path(), &whole).unwrap();
    let store = Sqlite::open(&store.path(), Options::default()).unwrap();
    assert_eq!(store.range(bytes("/"), bytes("0"), 0, 0).await.unwrap().count, 200);
    store.close().await.unwrap();
}

/// The table as an older kine leaves it, with a key updated, one deleted, and a gap.
const KINE: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, created INTEGER, deleted INTEGER,
    create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
CREATE INDEX kine_name_index ON kine (name);
CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision);
INSERT INTO kine VALUES (1, 'compact_rev_key', 1, 0, 0, 3, 0, '', NULL);
INSERT INTO kine VALUES (3, '/registry/a', 1, 0, 0, 0, 0, x'31', NULL);
INSERT INTO kine VALUES (4, '/registry/b', 1, 0, 0, 0, 0, x'32', NULL);
INSERT INTO kine VALUES (5, 'gap-5', 0, 1, 0, 0, 0, NULL, NULL);
INSERT INTO kine VALUES (6, '/registry/a', 0, 0, 3, 3, 0, x'33', x'31');
INSERT INTO kine VALUES (7, '/registry/b', 0, 1, 4, 4, 0, x'32', x'32');
INSERT INTO kine VALUES (8, '/registry/b', 1, 0, 0, 7, 0, x'34', x'32');";

#[tokio::test]
async fn a_file_of_kine_opens_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    sql(&path).execute_batch(KINE).unwrap();
    let store = Sqlite::open(&path, Options::default()).unwrap();
    assert_eq!(store.current_revision().await.unwrap(), 8);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let range = store.range(bytes("/registry/"), bytes("/registry0"), 0, 0).await.unwrap();
    let kvs: Vec<_> = range.kvs.into_iter().map(|kv| (kv.value, kv.create_revision, kv.mod_revision)).collect();
    assert_eq!(kvs, [(bytes("3"), 3, 6), (bytes("4"), 8, 8)]);
    assert!(matches!(store.get(bytes("/registry/a"), 2).await, Err(Error::Compacted { compacted: 3, .. })));

    // Every key there is, so that the gap and kine's bookkeeping would show.
    let mut watch = store.watch(bytes("!"), bytes("~"), 3).await.unwrap();
    let events = take(&mut watch, 4).await;
    assert_eq!(events.iter().map(Event::revision).collect::<Vec<_>>(), [4, 6, 7, 8]);
    assert!(matches!(&events[1], Event::Put { previous: Some(kv), .. } if kv.value == bytes("1")));
    assert!(matches!(&events[2], Event::Delete { previous, .. } if previous.mod_revision == 4));

    assert_eq!(store.update(bytes("/registry/b"), 8, bytes("5"), 0).await.unwrap(), 9);
    store.compact(9).await.unwrap();
    store.close().await.unwrap();
    let conn = sql(&path);
    let ids = |sql: &str| -> Vec<i64> {
        conn.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(ids("SELECT id FROM kine ORDER BY id"), [1, 6, 9]);
    assert_eq!(ids("SELECT prev_revision FROM kine WHERE id = 1"), [9]);
    assert_eq!(ids("PRAGMA auto_vacuum"), [2], "it can shrink from now on");
}

/// What kine does to a file when it starts, whether the file is its own or not.
const KINE_STARTS: &str = "
CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name);
CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name,id);
CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id,deleted);
CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision);
CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision);
CREATE INDEX IF NOT EXISTS kine_list_query_index on kine(name, id DESC, deleted);
PRAGMA wal_checkpoint(TRUNCATE);";

#[tokio::test]
async fn kine_can_take_a_file_back_even_from_a_process_that_was_killed() {
    let store = Store::new();
    // What a history can hold: a key made, changed, deleted, made again, with compactions in between.
    for round in 0..3 {
        for key in ["/registry/a", "/registry/b"] {
            let at = store.store.create(bytes(key), bytes("1"), 0).await.unwrap();
            let at = store.store.update(bytes(key), at, bytes("2"), 0).await.unwrap();
            let at = store.store.delete(bytes(key), at).await.unwrap();
            if round == 1 {
                store.store.compact(at).await.unwrap();
            }
        }
    }
    let last = store.store.create(bytes("/registry/a"), bytes("3"), 0).await.unwrap();
    // The copy is what a kill would leave: the file and its WAL, as they are while the datastore is open.
    let killed = store.folder.path().join("killed.db");
    for suffix in ["", "-wal"] {
        // By another process: to close the file in this one would drop SQLite's locks.
        let [from, to] = [&store.path(), &killed].map(|path| format!("{}{suffix}", path.display()));
        assert!(std::process::Command::new("cp").args([from, to]).status().unwrap().success());
    }
    store.store.close().await.unwrap();
    for path in [killed, store.path()] {
        let conn = sql(&path);
        conn.execute_batch(KINE_STARTS).unwrap();
        // As kine looks for the current revision, and for a key.
        let current: i64 = conn.query_row("SELECT MAX(rkv.id) FROM kine AS rkv", [], |row| row.get(0)).unwrap();
        assert_eq!(current, last);
        let newest = "SELECT value FROM kine WHERE id = (SELECT MAX(id) FROM kine WHERE name = '/registry/a')";
        assert_eq!(conn.query_row(newest, [], |row| row.get::<_, Vec<u8>>(0)).unwrap(), b"3");
        drop(conn);
        // And back again.
        let store = Sqlite::open(&path, Options::default()).unwrap();
        assert_eq!(store.current_revision().await.unwrap(), last);
        assert_eq!(store.get(bytes("/registry/b"), 0).await.unwrap().1, None);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_saved_under_load_is_whole_and_private() {
    let store = Store::new();
    let key = bytes("/a");
    let mut at = store.store.create(key.clone(), bytes("x".repeat(5000)), 0).await.unwrap();
    let copy = store.folder.path().join("copy");
    let saving = store.store.save(&copy);
    tokio::pin!(saving);
    loop {
        tokio::select! {
            biased;
            saved = &mut saving => break saved.unwrap(),
            written = store.store.update(key.clone(), at, bytes("x".repeat(5000)), 0) => at = written.unwrap(),
        }
    }
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    store.store.close().await.unwrap();
    let restored = store.folder.path().join("elsewhere/state.db");
    assert_eq!(k3s_kine::sqlite::restore(&copy, &restored).unwrap(), None);
    let other = Sqlite::open(&restored, Options::default()).unwrap();
    let (revision, kv) = other.get(key, 0).await.unwrap();
    assert_eq!(kv.unwrap().mod_revision, revision);
    assert!(revision <= at);
    other.close().await.unwrap();

    std::fs::write(&copy, b"no database at all").unwrap();
    match k3s_kine::sqlite::restore(&copy, &restored) {
        Err(Error::Corrupt { path, .. }) => assert_eq!(path, copy.display().to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn its_metrics_have_the_names_of_kine() {
    let Store { store, .. } = &Store::new();
    let at = store.create(bytes("/a"), bytes("1"), 0).await.unwrap();
    let at = store.update(bytes("/a"), at, bytes("2"), 0).await.unwrap();
    store.compact(at).await.unwrap();
    // When it is answered, what went before has been counted.
    store.create(bytes("/b"), bytes(""), 0).await.unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    store.metrics().register(&mut registry);
    let text = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let text = text();
    for line in [
        "kine_sql_time_seconds_count{error_code=\"\"} ",
        "kine_compact_total{result=\"success\"} 1\n",
        "kine_compact_step_seconds_count ",
        "kine_current_revision 4\n",
        "kine_compact_revision 3\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.contains("kine_sql_total{error_code=\"\"}"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_somebody_else_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    sql(&path).execute_batch("CREATE TABLE kine (id INTEGER, colour TEXT)").unwrap();
    let Err(error) = Sqlite::open(&path, Options::default()) else { panic!("it was opened") };
    let error = error.to_string();
    assert!(error.contains("not kine's") && error.contains("state.db") && error.contains("\"name\""), "{error}");
    let tables: i64 = sql(&path).query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}
