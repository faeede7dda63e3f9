//! get, put, del, txn, lease, compaction.

use super::{watches::Watching, *};

#[tokio::test(flavor = "multi_thread")]
async fn put_get_and_del_with_their_options() {
    let served = Served::tcp().await;
    for (key, value) in [("/b", "2"), ("/a", "1"), ("/c", "3"), ("42", "a number"), ("gap-1", "no gap")] {
        assert_eq!(served.run(&["put", key, value]).await, "OK\n");
    }
    assert_eq!(served.run(&["get", "/a"]).await, "/a\n1\n");
    assert_eq!(served.run(&["get", "/none"]).await, "");
    assert_eq!(served.run(&["get", "/", "--prefix", "--keys-only"]).await, "/a\n\n/b\n\n/c\n\n");
    assert_eq!(served.run(&["get", "/a", "/c", "--print-value-only"]).await, "1\n2\n");
    assert_eq!(served.run(&["get", "/b", "--from-key", "--print-value-only"]).await, "2\n3\na number\nno gap\n");
    assert_eq!(served.run(&["get", "", "--prefix", "--keys-only", "--limit=1"]).await, "/a\n\n");
    let sorted = ["get", "/", "--prefix", "--print-value-only", "--sort-by=CREATE", "--order=DESCEND", "--limit=2"];
    assert_eq!(served.run(&sorted).await, "3\n1\n");
    let one = served.json(&["get", "/", "--prefix", "--limit=1"]).await;
    assert_eq!((&one["count"], &one["more"]), (&3.into(), &true.into()));

    assert_eq!(served.run(&["put", "/a", "new", "--prev-kv"]).await, "OK\n/a\n1\n");
    let kv = &served.json(&["get", "/a"]).await["kvs"][0];
    assert_eq!((&kv["version"], &kv["create_revision"], &kv["mod_revision"]), (&2.into(), &3.into(), &7.into()));
    assert_eq!(served.run(&["get", "/a", "--rev=3", "--print-value-only"]).await, "1\n");
    assert!(served.fail(&["get", "/a", "--rev=99"]).await.contains("required revision is a future revision"));
    assert!(served.fail(&["put", "", "x"]).await.contains("key is not provided"));
    assert!(served.fail(&["put", "/none", "--ignore-value"]).await.contains("key not found"));

    assert_eq!(served.run(&["del", "/none"]).await, "0\n");
    assert_eq!(served.run(&["del", "/a", "--prev-kv"]).await, "1\n/a\nnew\n");
    assert_eq!(served.run(&["del", "/", "--prefix"]).await, "2\n");
    assert_eq!(served.run(&["get", "", "--from-key", "--keys-only"]).await, "42\n\ngap-1\n\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_takes_one_branch_or_the_other() {
    let served = Served::tcp().await;
    let txn = "create(\"/lock\") = \"0\"\n\nput /lock \"mine\"\nput /note \"done\"\nget /lock\n\nget /lock\n\n";
    let first = served.run_with(&["txn"], txn).await;
    assert_eq!(first, "SUCCESS\n\nOK\n\nOK\n\n/lock\nmine\n");
    assert_eq!(served.run_with(&["txn"], txn).await, "FAILURE\n\n/lock\nmine\n");

    let conditions = [
        ("version(\"/lock\") = \"1\"", true),
        ("mod(\"/lock\") < \"3\"", true),
        ("mod(\"/lock\") > \"2\"", false),
        ("value(\"/lock\") = \"mine\"", true),
        ("value(\"/none\") = \"\"", false),
        ("value(\"/lock\") != \"mine\"", false),
    ];
    for (condition, holds) in conditions {
        let out = served.run_with(&["txn"], &format!("{condition}\n\nget /lock\n\ndel /lock\n\n")).await;
        assert_eq!(out.starts_with("SUCCESS"), holds, "{condition}: {out}");
        if !holds {
            served.run(&["del", "/lock"]).await;
            served.run(&["put", "/lock", "mine"]).await;
        }
    }
    let (success, _, err) = served.output(&["txn"], "\nput /a 1\nput /a 2\n\n\n").await;
    assert!(!success && err.contains("duplicate key given in txn request"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_granted_kept_alive_listed_and_revoked() {
    let served = Served::tcp().await;
    let granted = served.json(&["lease", "grant", "60"]).await;
    assert_eq!(granted["TTL"], 60);
    let hex = format!("{:016x}", granted["ID"].as_i64().unwrap());
    assert_eq!(served.run(&["put", "/with", "v", "--lease", &hex]).await, "OK\n");
    assert_eq!(served.json(&["get", "/with"]).await["kvs"][0]["lease"], granted["ID"]);
    let live = served.run(&["lease", "timetolive", &hex, "--keys"]).await;
    assert!(live.contains("granted with TTL(60s)") && live.contains("attached keys([/with])"), "{live}");
    assert_eq!(served.run(&["lease", "list"]).await, format!("found 1 leases\n{hex}\n"));
    let kept = served.run(&["lease", "keep-alive", "--once", &hex]).await;
    assert!(kept.contains(&format!("lease {hex} keepalived with TTL(60)")), "{kept}");
    assert_eq!(served.run(&["lease", "revoke", &hex]).await, format!("lease {hex} revoked\n"));
    assert_eq!(served.run(&["get", "/with"]).await, "");
    assert!(served.fail(&["lease", "revoke", &hex]).await.contains("requested lease not found"));
    assert!(served.fail(&["put", "/with", "v", "--lease", &hex]).await.contains("requested lease not found"));
    assert!(served.run(&["lease", "timetolive", &hex]).await.contains("already expired"));

    let short = served.json(&["lease", "grant", "1"]).await;
    served.run(&["put", "/short", "v", "--lease", &format!("{:x}", short["ID"].as_i64().unwrap())]).await;
    let mut watching = Watching::begin(&served, &["watch", "/short", "--rev=1"]);
    let mut lines = watching.lines(6).await;
    assert_eq!(lines.split_off(3), ["DELETE", "/short", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compacted_is_refused_as_etcd_refuses_it() {
    let served = Served::tcp().await;
    for value in ["1", "2", "3"] {
        served.run(&["put", "/a", value]).await;
    }
    assert_eq!(served.run(&["compaction", "3"]).await, "compacted revision 3\n");
    assert!(served.fail(&["compaction", "3"]).await.contains("required revision has been compacted"));
    assert!(served.fail(&["compaction", "9"]).await.contains("required revision is a future revision"));
    assert!(served.fail(&["get", "/a", "--rev=2"]).await.contains("required revision has been compacted"));
    assert_eq!(served.run(&["get", "/a", "--rev=3", "--print-value-only"]).await, "2\n");
    let (_, _, err) = served.output(&["watch", "/a", "--rev=1"], "").await;
    assert!(err.contains("compacted"), "{err}");
}
