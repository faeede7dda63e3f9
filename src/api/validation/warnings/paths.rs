//! Files of a volume that would lie in or over each other.

use super::super::node::Node;
use crate::quote::quote;

#[derive(Clone, PartialEq, Eq)]
struct File {
    path: String,
    /// What it comes from; empty where a volume has one source only.
    source: String,
}

impl std::fmt::Display for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&quote(&self.path))?;
        if !self.source.is_empty() {
            write!(f, " ({})", self.source)?;
        }
        Ok(())
    }
}

/// Of the volumes of a pod.
pub(super) fn overlaps(volumes: &Node, out: &mut Vec<String>) {
    for volume in volumes.items() {
        let name = volume.field("name");
        for (kind, of, described) in [("configMap", "name", "ConfigMap"), ("secret", "secretName", "Secret")] {
            let source = volume.field(kind);
            let described = format!("{described} {}", quote(source.field(of).text()));
            tell(name.text(), &described, items(&source, ""), out);
        }
        tell(name.text(), "DownwardAPI", items(&volume.field("downwardAPI"), ""), out);
        projected(&volume, out);
    }
}

fn projected(volume: &Node, out: &mut Vec<String>) {
    let name = volume.field("name");
    let projected = volume.field("projected");
    let mut files = Vec::new();
    for source in projected.field("sources").items() {
        if source.is_empty() {
            out.push(format!("volume {} (Projected) has no sources provided", quote(name.text())));
            continue;
        }
        let quoted = |kind: &str, field: &str| quote(source.field(kind).field(field).text());
        let file = |kind: &str, described: String| File {
            path: source.field(kind).field("path").text().to_owned(),
            source: described,
        };
        files.extend(items(&source.field("configMap"), &format!("ConfigMap {}", quoted("configMap", "name"))));
        files.extend(items(&source.field("secret"), &format!("Secret {}", quoted("secret", "name"))));
        files.extend(items(&source.field("downwardAPI"), "DownwardAPI"));
        if source.field("serviceAccountToken").is_set() {
            files.push(file("serviceAccountToken", "ServiceAccountToken".to_owned()));
        }
        if source.field("clusterTrustBundle").is_set() {
            let by_name = source.field("clusterTrustBundle").field("name").is_set();
            let bundle = quoted("clusterTrustBundle", if by_name { "name" } else { "signerName" });
            files.push(file("clusterTrustBundle", format!("ClusterTrustBundle {bundle}")));
        }
    }
    tell(name.text(), "Projected", files, out);
}

fn items(source: &Node, described: &str) -> Vec<File> {
    let file = |item: Node| File { path: item.field("path").text().to_owned(), source: described.to_owned() };
    source.field("items").items().map(file).collect()
}

fn tell(volume: &str, described: &str, files: Vec<File>, out: &mut Vec<String>) {
    let mut before: Vec<File> = Vec::new();
    for mut file in files {
        file.path.truncate(file.path.trim_end_matches('/').len());
        for other in before.iter().filter(|other| overlap(&file.path, &other.path)) {
            out.push(format!("volume {} ({described}): overlapping paths: {file} with {other}", quote(volume)));
        }
        before.push(file);
    }
}

fn overlap(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| format!("{inner}/").starts_with(&format!("{outer}/"));
    !one.is_empty() && !other.is_empty() && (within(one, other) || within(other, one))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_over_and_in_each_other_are_told_with_their_sources() {
        let volumes = json!([
            {"name": "c", "configMap": {"name": "m", "items": [{"key": "a", "path": "x"}, {"key": "b", "path": "x/y/"}]}},
            {"name": "p", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {},
                {"secret": {"name": "s", "items": [{"key": "a", "path": "token"}, {"key": "b", "path": "tokens"}]}}]}}]);
        let mut told = Vec::new();
        overlaps(&Node::root(&volumes), &mut told);
        assert_eq!(
            told,
            [
                r#"volume "c" (ConfigMap "m"): overlapping paths: "x/y" with "x""#,
                r#"volume "p" (Projected) has no sources provided"#,
                r#"volume "p" (Projected): overlapping paths: "token" (Secret "s") with "token" (ServiceAccountToken)"#,
            ]
        );
    }
}
