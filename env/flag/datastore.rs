//! Flags of the datastore: an external one, and snapshots of the embedded etcd.

use super::Subcommand::Server;
use super::{Flag, Type};

const DB: &str = "db";

const SNAPSHOTS: &str = "it is about snapshots of an embedded etcd, which this version does not have";
const S3: &str = "it goes with --etcd-s3, which this version does not have";

pub static FLAGS: &[Flag] = &[
    Flag::new("kine-tls", Type::Switch, "experimental/db", "Use TLS on the socket between API server and kine")
        .only(Server)
        .hidden()
        .moot("the API server calls the datastore in the same process; the socket is for the server's own user alone"),
    Flag::new(
        "datastore-endpoint",
        Type::Text,
        DB,
        "Datastore as a URL: postgres://, mysql:// (MariaDB as well), https://A:2379,https://B:2379 (etcd), or sqlite:// for a file",
    )
    .variable("K3S_DATASTORE_ENDPOINT")
    .only(Server),
    Flag::new("datastore-cafile", Type::Path, DB, "Certificate authorities that the datastore's certificate is from")
        .variable("K3S_DATASTORE_CAFILE")
        .only(Server),
    Flag::new("datastore-certfile", Type::Path, DB, "Certificate that is shown to the datastore")
        .variable("K3S_DATASTORE_CERTFILE")
        .only(Server),
    Flag::new("datastore-keyfile", Type::Path, DB, "Key of that certificate")
        .variable("K3S_DATASTORE_KEYFILE")
        .only(Server),
    Flag::new("etcd-expose-metrics", Type::Switch, DB, "Serve etcd's metrics to other machines")
        .only(Server)
        .ignored("this version has no embedded etcd"),
    Flag::new("etcd-disable-snapshots", Type::Switch, DB, "Take no snapshots of etcd by itself")
        .only(Server)
        .moot("none are taken"),
    Flag::new("etcd-snapshot-name", Type::Text, DB, "How names of snapshots begin")
        .default("etcd-snapshot")
        .only(Server)
        .ignored(SNAPSHOTS),
    Flag::new("etcd-snapshot-schedule-cron", Type::Text, DB, "When snapshots are taken, as in crontab(5)")
        .default("0 */12 * * *")
        .only(Server)
        .ignored(SNAPSHOTS),
    Flag::new("etcd-snapshot-reconcile-interval", Type::Duration, DB, "How often the list of snapshots is renewed")
        .default("10m")
        .only(Server)
        .ignored(SNAPSHOTS),
    Flag::new("etcd-snapshot-retention", Type::Number, DB, "How many snapshots are kept")
        .default("5")
        .only(Server)
        .ignored(SNAPSHOTS),
    Flag::new("etcd-snapshot-dir", Type::Path, DB, "Folder of snapshots; without it server/db/snapshots")
        .only(Server)
        .ignored(SNAPSHOTS),
    Flag::new("etcd-snapshot-compress", Type::Switch, DB, "Compress snapshots").only(Server).ignored(SNAPSHOTS),
    Flag::new("etcd-s3", Type::Switch, DB, "Store snapshots in S3 as well")
        .only(Server)
        .refused("this version takes no snapshots; whoever counts on backups would have none"),
    Flag::new("etcd-s3-endpoint", Type::Text, DB, "S3 server").default("s3.amazonaws.com").only(Server).ignored(S3),
    Flag::new("etcd-s3-endpoint-ca", Type::Path, DB, "Certificate authorities of the S3 server")
        .only(Server)
        .ignored(S3),
    Flag::new("etcd-s3-skip-ssl-verify", Type::Switch, DB, "Do not check the S3 server's certificate")
        .only(Server)
        .ignored(S3),
    Flag::new("etcd-s3-access-key", Type::Text, DB, "S3 access key")
        .variable("AWS_ACCESS_KEY_ID")
        .only(Server)
        .ignored(S3),
    Flag::new("etcd-s3-secret-key", Type::Text, DB, "S3 secret key")
        .variable("AWS_SECRET_ACCESS_KEY")
        .only(Server)
        .ignored(S3),
    Flag::new("etcd-s3-session-token", Type::Text, DB, "S3 session token")
        .variable("AWS_SESSION_TOKEN")
        .only(Server)
        .ignored(S3),
    Flag::new("etcd-s3-bucket", Type::Text, DB, "S3 bucket").only(Server).ignored(S3),
    Flag::new(
        "etcd-s3-bucket-lookup-type",
        Type::OneOf(&["auto", "dns", "path"]),
        DB,
        "Where the bucket stands in the URL: auto, dns or path",
    )
    .default("auto")
    .only(Server)
    .ignored(S3),
    Flag::new("etcd-s3-region", Type::Text, DB, "S3 region").default("us-east-1").only(Server).ignored(S3),
    Flag::new("etcd-s3-folder", Type::Text, DB, "Folder in the bucket").only(Server).ignored(S3),
    Flag::new("etcd-s3-retention", Type::Number, DB, "How many snapshots are kept in S3")
        .default("5")
        .only(Server)
        .ignored(S3),
    Flag::new("etcd-s3-proxy", Type::Text, DB, "Proxy towards the S3 server").only(Server).ignored(S3),
    Flag::new("etcd-s3-config-secret", Type::Text, DB, "Secret in kube-system with the settings of S3")
        .only(Server)
        .ignored(S3),
    Flag::new("etcd-s3-insecure", Type::Switch, DB, "Speak to S3 without TLS").only(Server).ignored(S3),
    Flag::new("etcd-s3-timeout", Type::Duration, DB, "How long S3 may take").default("5m0s").only(Server).ignored(S3),
];
