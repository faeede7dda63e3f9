//! RuntimeClasses for the runtimes that k3s knows, as k3s deploys them: a pod that names one runs where the node has it.

/// File name below `server/manifests`.
pub const MANIFEST_NAME: &str = "runtimes.yaml";

/// The classes; each is named as its handler.
const CLASSES: [&str; 10] =
    ["nvidia", "nvidia-experimental", "crun", "lunatic", "slight", "spin", "wws", "wasmedge", "wasmer", "wasmtime"];

/// The manifest.
pub fn manifest() -> String {
    let class = |name: &&str| {
        format!("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: {name}\nhandler: {name}\n")
    };
    CLASSES.iter().map(class).collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_a_document_of_its_own() {
        let text = manifest();
        let documents: Vec<&str> = text.split("---\n").collect();
        assert_eq!(documents.len(), CLASSES.len());
        let crun = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: crun\nhandler: crun\n";
        assert_eq!(documents[2], crun);
    }
}
