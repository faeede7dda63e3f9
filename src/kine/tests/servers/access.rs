//! Who is let in, to what; and what is said if not.

use k3s_kine::endpoint::{self, Error};

use super::*;

async fn open_endpoint(endpoint: String, tls: Files) -> Result<endpoint::Opened, Error> {
    let request_timeout = Some(Duration::from_secs(2));
    endpoint::open(&endpoint::Options { endpoint, tls, request_timeout, ..Default::default() }).await
}

async fn refused(endpoint: String, tls: Files) -> String {
    let shown = endpoint.clone();
    let Err(error) = open_endpoint(endpoint, tls).await else { panic!("{shown} was let in") };
    let error = error.to_string();
    assert!(!error.contains("secret") && !error.contains("wrong-one"), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_lets_in_who_may_and_says_who_may_not() {
    let server = Server::start(Kind::Postgres);
    let host = format!("localhost:{}", server.port);
    let client = Files {
        ca: Some(server.path("tls/ca.crt")),
        cert: Some(server.path("tls/client.crt")),
        key: Some(server.path("tls/client.key")),
    };
    errors(&server).await;

    let stranger = refused(format!("postgres://cert@{host}/"), Files { cert: None, key: None, ..client.clone() }).await;
    assert!(stranger.contains("certificate"), "{stranger}");
    let opened = open_endpoint(format!("postgres://k3s:secret@{host}/tls?sslmode=require"), Files::default()).await;
    works(opened.unwrap()).await;
    // A user of a database that exists: only its owner may make one.
    server.sql("postgres", "CREATE ROLE cert LOGIN SUPERUSER");
    works(open_endpoint(format!("postgres://cert@{host}/"), client.clone()).await.unwrap()).await;
    assert_eq!(server.sql("kubernetes", "SELECT COUNT(*) FROM kine WHERE name = '/works'"), "1");

    let other = tempfile::tempdir().unwrap();
    certificates::make(other.path());
    let wrong = Files { ca: Some(other.path().join("ca.crt")), ..client };
    let forged = refused(format!("postgres://cert@{host}/"), wrong).await;
    assert!(forged.contains("certificate"), "{forged}");
    let socket = format!("postgres://k3s@/socket?host={}&port={}", server.path("").display(), server.port);
    works(open_endpoint(socket, Files::default()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_lets_in_who_may_and_says_who_may_not() {
    let server = Server::start(Kind::Mariadb);
    let host = format!("tcp(127.0.0.1:{})", server.port);
    let client = Files {
        ca: Some(server.path("tls/ca.crt")),
        cert: Some(server.path("tls/client.crt")),
        key: Some(server.path("tls/client.key")),
    };
    errors(&server).await;

    refused(format!("mysql://cert@{host}/"), Files { cert: None, key: None, ..client.clone() }).await;
    works(open_endpoint(format!("mysql://cert@{host}/"), client.clone()).await.unwrap()).await;
    assert_eq!(server.sql("kubernetes", "SELECT COUNT(*) FROM kine WHERE name = '/works'"), "1");
    let other = tempfile::tempdir().unwrap();
    certificates::make(other.path());
    let wrong = Files { ca: Some(other.path().join("ca.crt")), ..client };
    let forged = refused(format!("mysql://cert@{host}/"), wrong).await;
    assert!(forged.contains("certificate"), "{forged}");
    let socket = format!("mysql://k3s:secret@unix({})/socket", server.path("socket").display());
    works(open_endpoint(socket, Files::default()).await.unwrap()).await;
}

async fn works(opened: endpoint::Opened) {
    let revision = opened.store.create(bytes("/works"), bytes("v"), 0).await.unwrap();
    assert_eq!(opened.store.get(bytes("/works"), 0).await.unwrap().0, revision);
    opened.close().await.unwrap();
}

/// What both kinds of servers have in common.
async fn errors(server: &Server) {
    let denied = refused(server.endpoint("k3s:wrong-one", "kubernetes"), Files::default()).await;
    assert!(denied.contains("refused the login"), "{denied}");

    let nobody = server.endpoint("k3s:secret", "kubernetes").replace(&server.port.to_string(), "1");
    let unreachable = refused(nobody, Files::default()).await;
    assert!(unreachable.contains("is not available"), "{unreachable}");

    let home = server.kind == Kind::Postgres;
    let (text, database) = if home { ("text", "postgres") } else { ("varchar(9)", "mysql") };
    server.sql(database, "CREATE DATABASE foreigner");
    server.sql("foreigner", &format!("CREATE TABLE kine (id integer, colour {text})"));
    let foreign = refused(server.endpoint("k3s:secret", "foreigner"), Files::default()).await;
    assert!(foreign.contains("not kine's") && foreign.contains("name"), "{foreign}");

    // Of an old kine: small numbers, names that are text of some language, no indexes.
    server.sql(database, "CREATE DATABASE old");
    let (serial, blob, bytes_of) = match server.kind {
        Kind::Postgres => ("id SERIAL PRIMARY KEY", "bytea", "VARCHAR(630)"),
        Kind::Mariadb => ("id INTEGER AUTO_INCREMENT PRIMARY KEY", "MEDIUMBLOB", "VARCHAR(630) CHARACTER SET ascii"),
    };
    server.sql(
        "old",
        &format!(
            "CREATE TABLE kine ({serial}, name {bytes_of}, created INTEGER, deleted INTEGER, create_revision INTEGER,
               prev_revision INTEGER, lease INTEGER, value {blob}, old_value {blob});
             INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value) VALUES
               ('compact_rev_key', 1, 0, 0, 0, 0, ''), ('/a', 1, 0, 0, 0, 0, 'one'), ('/A', 1, 0, 0, 0, 0, 'big');
             INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value) VALUES
               ('/a', 0, 0, 2, 2, 0, 'two', 'one'), ('/A', 0, 1, 3, 3, 0, 'big', 'big')"
        ),
    );
    let opened = open_endpoint(server.endpoint("k3s:secret", "old"), Files::default()).await.unwrap();
    let range = opened.store.range(bytes("/"), bytes("0"), 0, 0).await.unwrap();
    assert_eq!((range.revision, range.count), (5, 1), "{range:?}");
    let kv = &range.kvs[0];
    assert_eq!((&kv.value, kv.create_revision, kv.mod_revision, kv.version), (&bytes("two"), 2, 4, 2));
    let events = take(&mut opened.store.watch(bytes("/"), bytes("0"), 1).await.unwrap(), 4).await;
    assert_eq!(revisions(&events), [2, 3, 4, 5]);
    assert!(matches!(&events[3], Event::Delete { previous, .. } if previous.value == bytes("big")));
    assert_eq!(opened.store.create(bytes("/b"), bytes("v"), 0).await.unwrap(), 6);
    opened.close().await.unwrap();
    // Kine goes on from there: it takes its ids from the server.
    server.sql("old", "INSERT INTO kine (name, created, deleted, prev_revision) VALUES ('/of-kine', 1, 0, 0)");
    assert_eq!(server.sql("old", "SELECT MAX(id) FROM kine"), "7");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_is_refused() {
    for (endpoint, expected) in [
        ("oracle://me:secret@host/db", "oracle://…: there is no such datastore"),
        ("host:2379", "does not begin with a scheme"),
        ("postgres://me:secret@host/db?sslmode=maybe", "sslmode=maybe"),
        ("mysql://me:secret@host:3306/db", "is no protocol"),
        ("postgres://me:secret@host/db?sslcert=/no/cert", "both"),
        ("sqlite:///proc/no/such/folder/state.db", "/proc/no/such/folder"),
    ] {
        let error = refused(endpoint.into(), Files::default()).await;
        assert!(error.contains(expected), "{endpoint}: {error}");
    }
}

#[tokio::test]
async fn without_an_endpoint_it_is_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in
        [String::new(), "sqlite://".into(), format!("sqlite://{}", folder.path().join("state.db").display())]
    {
        let options = endpoint::Options { endpoint, sqlite_file: folder.path().join("state.db"), ..Default::default() };
        let opened = endpoint::open(&options).await.unwrap();
        opened.store.current_revision().await.unwrap();
        opened.close().await.unwrap();
    }
    assert!(folder.path().join("state.db").exists());
}
