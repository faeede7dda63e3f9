//! Containers that join the pid namespace of another (`kubectl debug --target`).

use std::time::Duration;

use k3s_cri::*;

use crate::node::{Node, log, shell};

pub async fn a_container_sees_the_processes_of_its_target() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let target = node.run(&sandbox, shell("trap '' HUP; exec sleep 1000")).await;
    let other = node.run(&sandbox, shell("exec sleep 2000")).await;
    let debugger = |script: &str| ContainerConfig { target: Some(target.clone()), ..shell(script) };
    let id = node.run(&sandbox, debugger("ps; readlink /proc/1/root; kill -HUP 1; exit 3")).await;
    let status = node.ended(&id).await;
    let seen = log(&status.log_path).join("\n");
    assert_eq!(status.exit_code, 3, "{seen}");
    assert!(seen.contains("sleep 1000") && !seen.contains("sleep 2000"), "{seen}");
    node.runtime.remove_container(&id).await.unwrap();

    // Its end is its own, with everything it started; so is that of a command in it.
    let id = node.run(&sandbox, debugger("sleep 3000 & exec sleep 3001")).await;
    let ps = vec!["ps".to_owned()];
    let seen = node.runtime.exec_sync(&target, ps.clone(), Duration::from_secs(30)).await.unwrap();
    assert!(String::from_utf8_lossy(&seen.stdout).contains("sleep 3001"), "{seen:?}");
    node.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    let seen = node.runtime.exec_sync(&target, ps, Duration::from_secs(30)).await.unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(!seen.contains("sleep 300") && seen.contains("sleep 1000"), "{seen}");
    assert_eq!(node.status(&target).await.state, ContainerState::Running);

    // With its target it ends, since the kernel ends what is in the namespace.
    let id = node.run(&sandbox, debugger("exec sleep 4000")).await;
    node.runtime.stop_container(&target, Duration::ZERO).await.unwrap();
    assert_eq!(node.ended(&id).await.exit_code, 137);
    assert_eq!(node.status(&other).await.state, ContainerState::Running);
    node.end().await;
}

pub async fn only_a_running_container_of_the_pod_is_a_target() {
    let node = Node::new().await;
    let (sandbox, stranger) = (node.sandbox("web").await, node.sandbox("other").await);
    let ended = node.run(&sandbox, shell("true")).await;
    node.ended(&ended).await;
    let elsewhere = node.run(&stranger, shell("exec sleep 1000")).await;
    for (target, reason) in
        [("nothing", "nothing"), (&ended, "is not running - in state Exited"), (&elsewhere, "is not in sandbox")]
    {
        let config = ContainerConfig { target: Some(target.to_owned()), ..shell("true") };
        match node.runtime.create_container(&sandbox, config).await {
            Err(Error::InvalidArgument { detail }) => {
                assert!(detail.starts_with("invalid target container: ") && detail.contains(reason), "{detail}");
            }
            other => panic!("{other:?}"),
        }
    }
    node.end().await;
}
