//! Pulls.

use std::path::PathBuf;

use k3s_cri::*;
use serde_json::json;

use crate::archive::{self, Layer, gzip};
use crate::node::{Node, shell};
use crate::registry::{Behaviour, DebianRegistry, Registry};

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer stored as it is.
fn plain(layer: Vec<u8>) -> (&'static str, Vec<u8>, Vec<u8>) {
    (PLAIN, layer.clone(), layer)
}

fn note(name: &str, text: &str) -> Vec<u8> {
    Layer::new().file(name, 0o644, text.as_bytes()).finish()
}

fn pull_error(result: Result<String, Error>) -> String {
    result.expect_err("a pull that fails").rpc()
}

fn assert_nothing_is_left(node: &Node) {
    let count = |directory: PathBuf| std::fs::read_dir(directory).unwrap().count();
    assert_eq!(count(node.path("root/images/blobs/sha256")), 0, "blobs");
    assert_eq!(count(node.path("root/images/ingest")), 0, "ingest");
    // The skeleton of the built-in image.
    assert_eq!(count(node.path("root/snapshots")), 1, "layers");
}

pub async fn layers_of_every_compression_arrive() {
    let registry = Registry::start(Behaviour::default()).await;
    let (one, two) = (note("etc/one", "gzip\n"), note("etc/two", "zstd\n"));
    let zstd = zstd::stream::encode_all(&two[..], 1).unwrap();
    let layers = [
        plain(archive::busybox_layer()),
        ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(&one), one),
        ("application/vnd.oci.image.layer.v1.tar+zstd", zstd, two),
    ];
    registry.image("app", "v1", &layers);
    let node = Node::empty().await;
    let name = format!("{}/app:v1", registry.host());
    let id = node.runtime.pull_image(&name, None).await.unwrap();
    let image = node.runtime.image_status(&name).await.unwrap().unwrap();
    assert_eq!((&image.id, &image.repo_tags[..]), (&id, &[name.clone()][..]));
    let config = ContainerConfig { image_id: id, ..shell("cat /etc/one /etc/two") };
    assert_eq!(node.run_to_end(config).await.1, ["stdout F gzip", "stdout F zstd"]);
    // A second pull asks what the tag is now, and gets nothing twice.
    let blobs = registry.requests("/blobs/");
    node.runtime.pull_image(&name, None).await.unwrap();
    assert_eq!(registry.requests("/blobs/"), blobs);
    assert_eq!(registry.requests("/manifests/v1"), 2);
    node.end().await;
}

pub async fn the_index_of_a_tag_is_what_the_image_is_called_by() {
    let registry = Registry::start(Behaviour::default()).await;
    let own = registry.image("app", "own", &[plain(archive::busybox_layer())]);
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let entry = |digest: &str, architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let other = format!("sha256:{}", "0".repeat(64));
    let kind = "application/vnd.oci.image.index.v1+json";
    let all = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry(&other, "s390x"), entry(&own, architecture)]});
    let index = registry.manifest("app", "all", kind, &all);
    let strange = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry(&other, "s390x")]});
    registry.manifest("app", "strange", kind, &strange);
    let mut node = Node::empty().await;
    let host = registry.host();
    let id = node.runtime.pull_image(&format!("{host}/app:all"), None).await.unwrap();
    node.restart_after(async |_| {}).await;
    let image = node.runtime.image_status(&id).await.unwrap().unwrap();
    assert_eq!(image.repo_digests, [format!("{host}/app@{index}")]);
    assert_eq!(node.runtime.image_status(&format!("{host}/app@{index}")).await.unwrap().unwrap().id, id);
    assert_eq!(node.runtime.pull_image(&format!("{host}/app@{own}"), None).await.unwrap(), id);
    let error = pull_error(node.runtime.pull_image(&format!("{host}/app:strange"), None).await);
    assert!(error.contains("no match for platform in manifest"), "{error}");
    node.end().await;
}

pub async fn a_bearer_token_is_fetched_with_the_credentials() {
    let password = Some(("edge".to_owned(), "secret".to_owned()));
    let registry = Registry::start(Behaviour { password, ..Behaviour::default() }).await;
    registry.image("app", "v1", &[plain(archive::busybox_layer())]);
    let name = format!("{}/app:v1", registry.host());
    let node = Node::empty().await;
    let error = pull_error(node.runtime.pull_image(&name, None).await);
    assert!(error.starts_with("rpc error: code = Unknown desc = failed to pull and unpack image"), "{error}");
    assert!(error.contains("pull access denied, repository does not exist or may require authorization"), "{error}");
    let auth =
        |password: &str| RegistryAuth { username: "edge".into(), password: password.into(), ..RegistryAuth::default() };
    assert!(node.runtime.pull_image(&name, Some(&auth("wrong"))).await.is_err());
    let elsewhere = RegistryAuth { server_address: "https://other.example.com".into(), ..auth("secret") };
    assert!(node.runtime.pull_image(&name, Some(&elsewhere)).await.is_err());
    node.runtime.pull_image(&name, Some(&auth("secret"))).await.unwrap();
    node.end().await;
    // The same from registries.yaml.
    let host = registry.host();
    let node =
        Node::with_registries(&format!("configs: {{\"{host}\": {{auth: {{username: edge, password: secret}}}}}}"))
            .await;
    node.runtime.pull_image(&name, None).await.unwrap();
    node.end().await;
}

pub async fn a_broken_download_goes_on_where_it_broke() {
    let layer = archive::busybox_layer();
    let cut = layer.len() / 3;
    for no_ranges in [false, true] {
        // Without ranges every answer starts anew, and has to get further than the last.
        let cut_after = Some(if no_ranges { layer.len() - 1 } else { cut });
        let registry = Registry::start(Behaviour { cut_after, no_ranges, ..Behaviour::default() }).await;
        registry.image("app", "v1", &[plain(layer.clone())]);
        let node = Node::empty().await;
        let result = node.runtime.pull_image(&format!("{}/app:v1", registry.host()), None).await;
        if no_ranges {
            // Never gets further than the cut: given up, with nothing left.
            assert!(pull_error(result).contains("failed to copy"));
            assert_nothing_is_left(&node);
        } else {
            node.runtime.image_status(&result.unwrap()).await.unwrap().unwrap();
            assert!(registry.requests(&archive::digest(&layer)) >= 3);
        }
        node.end().await;
    }
}

pub async fn damage_and_strangers_are_refused_and_leave_nothing() {
    let registry = Registry::start(Behaviour { damaged: true, ..Behaviour::default() }).await;
    registry.image("app", "v1", &[plain(archive::busybox_layer())]);
    let node = Node::empty().await;
    let pull = async |name: String| pull_error(node.runtime.pull_image(&name, None).await);
    let error = pull(format!("{}/app:v1", registry.host())).await;
    assert!(error.contains("has the digest"), "{error}");
    assert_nothing_is_left(&node);
    let whole = Registry::start(Behaviour::default()).await;
    // A layer that is not what the configuration says, with the right digest of its own.
    whole.image("app", "lie", &[(PLAIN, note("a", "a"), note("b", "b"))]);
    let error = pull(format!("{}/app:lie", whole.host())).await;
    assert!(error.contains("as the image says"), "{error}");
    assert_nothing_is_left(&node);
    let name = format!("{}/app:absent", whole.host());
    let error = pull(name.clone()).await;
    let want = format!(
        "rpc error: code = NotFound desc = failed to pull and unpack image {name:?}: failed to resolve reference \
         {name:?}: {name}: not found"
    );
    assert_eq!(error, want);
    let error = pull("127.0.0.1:1/app:v1".to_owned()).await;
    assert!(error.contains("failed to do request") && error.contains("Connection refused"), "{error}");
    assert!(matches!(node.runtime.pull_image("Bad Name", None).await, Err(Error::InvalidArgument { .. })));
    assert_nothing_is_left(&node);
    node.end().await;
}

pub async fn a_full_disk_fails_the_pull_and_its_space_comes_back() {
    let store = tempfile::tempdir().unwrap();
    std::fs::set_permissions(store.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), store.path(), Some("tmpfs"), none, Some("size=16m,mode=0755")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut options = crate::node::options(directory.path(), Default::default());
    options.root = store.path().join("root");
    let node = Node::with(directory, options).await;
    let registry = Registry::start(Behaviour::default()).await;
    let layer = |size: u32| {
        let content: Vec<u8> = (0..size / 4).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        plain(Layer::new().file("large", 0o644, &content).finish())
    };
    registry.image("large", "v1", &[layer(1 << 20), layer(20 << 20)]);
    registry.image("small", "v1", &[layer(1 << 20)]);
    let free = || nix::sys::statvfs::statvfs(store.path()).unwrap().blocks_available();
    let before = free();
    let error = node.runtime.pull_image(&format!("{}/large:v1", registry.host()), None).await.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert!(error.rpc().starts_with("rpc error: code = ResourceExhausted"), "{}", error.rpc());
    assert!(error.to_string().contains("no space left on device"), "{error}");
    // A page or two for the folders that were made.
    assert!(free() + 16 >= before, "{before} blocks were free, now {}", free());
    node.runtime.pull_image(&format!("{}/small:v1", registry.host()), None).await.unwrap();
    assert_eq!(node.run_to_end(shell("echo here")).await.1, ["stdout F here"]);
    node.end().await;
    nix::mount::umount(store.path()).unwrap();
}

pub async fn many_who_ask_are_served_by_one_pull() {
    let registry = Registry::start(Behaviour::default()).await;
    let shared = plain(archive::busybox_layer());
    registry.image("app", "v1", &[shared.clone(), plain(note("a", "a"))]);
    registry.image("app", "v2", &[shared.clone(), plain(note("b", "b"))]);
    let node = Node::empty().await;
    let names = [format!("{}/app:v1", registry.host()), format!("{}/app:v2", registry.host())];
    let pulls = (0..20).map(|index| node.runtime.pull_image(&names[index % 2], None));
    for result in futures::future::join_all(pulls).await {
        result.unwrap();
    }
    assert_eq!(registry.requests("/manifests/v"), 2);
    assert_eq!(registry.requests(&archive::digest(&shared.1)), 1);
    node.end().await;
}

pub async fn mirrors_are_asked_in_order_and_the_registry_last() {
    let (empty, mirror) = (Registry::start(Behaviour::default()).await, Registry::start(Behaviour::default()).await);
    mirror.image("mirrored/app", "v1", &[plain(archive::busybox_layer())]);
    let yaml = format!(
        "mirrors:\n  registry.invalid:\n    endpoint: [\"http://127.0.0.1:1\", \"http://{}\", \"http://{}\"]\n    \
         rewrite: {{\"^team/(.*)\": \"mirrored/$1\"}}\n",
        empty.host(),
        mirror.host()
    );
    let node = Node::with_registries(&yaml).await;
    node.runtime.pull_image("registry.invalid/team/app:v1", None).await.unwrap();
    let image = node.runtime.image_status("registry.invalid/team/app:v1").await.unwrap().unwrap();
    assert_eq!(image.repo_tags, ["registry.invalid/team/app:v1"]);
    assert_eq!(empty.requests("/manifests/"), 1);
    assert_eq!(empty.requests("/blobs/"), 0, "the mirror that had the manifest is asked first");
    // Absent from the mirrors, it is asked for at the registry itself, which does not exist.
    let error = pull_error(node.runtime.pull_image("registry.invalid/team/other:v1", None).await);
    assert!(error.contains("failed to resolve reference"), "{error}");
    node.end().await;
}

pub async fn lists_of_images_are_pulled() {
    let registry = Registry::start(Behaviour::default()).await;
    registry.image("app", "v1", &[plain(archive::busybox_layer())]);
    let node = Node::empty().await;
    let name = format!("{}/app:v1", registry.host());
    let list = format!("# what this node needs\n\n{name}\n");
    std::fs::write(node.path("list"), list).unwrap();
    std::fs::rename(node.path("list"), node.images_dir().join("images.txt")).unwrap();
    for report in node.runtime.import_images().await {
        assert_eq!(report.result.unwrap(), std::slice::from_ref(&name));
    }
    assert!(node.runtime.image_status(&name).await.unwrap().unwrap().pinned);
    node.end().await;
}

pub async fn debians_registry_with_and_without_tls_and_passwords() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    archive::docker(&path("app.tar"), "app", &[archive::busybox_layer(), note("etc/note", "pulled\n")], "");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(path("crt"), certificate.pem()).unwrap();
    std::fs::write(path("key"), key.serialize_pem()).unwrap();
    let tls = Some((path("crt"), path("key")));
    let tls = tls.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));

    let open = DebianRegistry::start(&path("open"), None, false).await;
    open.push(&path("app.tar"), "team/app:v1", &["--dest-tls-verify=false"]);
    let node = Node::empty().await;
    let id = node.runtime.pull_image(&format!("{}/team/app:v1", open.host), None).await.unwrap();
    let config = ContainerConfig { image_id: id, ..shell("cat /etc/note") };
    assert_eq!(node.run_to_end(config).await.1, ["stdout F pulled"]);
    node.end().await;
    drop(open);

    let closed = DebianRegistry::start(&path("closed"), tls, true).await;
    closed.push(&path("app.tar"), "team/app:v1", &["--dest-tls-verify=false", "--dest-creds=edge:secret"]);
    let (host, ca) = (&closed.host, path("crt"));
    let node_with = async |auth: &str, tls: &str| {
        let yaml = format!(
            "mirrors: {{\"registry.test\": {{endpoint: [\"https://{host}\"]}}}}\n\
             configs: {{\"{host}\": {{auth: {auth}, tls: {tls}}}}}"
        );
        Node::with_registries(&yaml).await
    };
    let right = "{username: edge, password: secret}";
    for (auth, tls, says) in [
        (right, "{}", "certificate"),
        ("", "{insecure_skip_verify: true}", "no basic auth credentials"),
        ("{username: edge, password: wrong}", "{insecure_skip_verify: true}", "401 Unauthorized"),
    ] {
        let node = node_with(auth, tls).await;
        let error = pull_error(node.runtime.pull_image("registry.test/team/app:v1", None).await);
        assert!(error.contains(says), "{error}");
        node.end().await;
    }
    for tls in [format!("{{ca_file: {}}}", ca.display()), "{insecure_skip_verify: true}".to_owned()] {
        let node = node_with(right, &tls).await;
        node.runtime.pull_image("registry.test/team/app:v1", None).await.unwrap();
        node.end().await;
    }
    let node = node_with("", &format!("{{ca_file: {}}}", ca.display())).await;
    let auth = RegistryAuth { username: "edge".into(), password: "secret".into(), ..RegistryAuth::default() };
    node.runtime.pull_image("registry.test/team/app:v1", Some(&auth)).await.unwrap();
    node.end().await;
}
