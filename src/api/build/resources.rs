//! The table of resources: `data/resources.txt` joined with what k8s-openapi's types say.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::roots::Resource;

/// One resource of `data/resources.txt`.
struct Row<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    options: BTreeMap<&'a str, &'a str>,
    select: Vec<&'a str>,
    subresources: Vec<(&'a str, BTreeMap<&'a str, &'a str>)>,
}

fn group_version(text: &str) -> (&str, &str) {
    text.rsplit_once('/').unwrap_or(("", text))
}

fn options<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, &'a str> {
    words.map(|word| word.split_once('=').unwrap_or_else(|| panic!("data/resources.txt: {word}"))).collect()
}

fn rows(text: &str) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !line.starts_with(' ') {
            let (group, version) = group_version(first);
            let kind = words.next().unwrap_or_else(|| panic!("data/resources.txt: no kind: {line}"));
            rows.push(Row { group, version, kind, options: options(words), select: vec![], subresources: vec![] });
            continue;
        }
        let row = rows.last_mut().unwrap_or_else(|| panic!("data/resources.txt: no resource before: {line}"));
        match first.strip_prefix("select=") {
            Some(field) => row.select = std::iter::once(field).chain(words).collect(),
            None => row.subresources.push((first, options(words))),
        }
    }
    rows
}

fn verbs(list: Option<&&str>, default: &str) -> String {
    let bits: Vec<String> =
        list.copied().unwrap_or(default).split(',').map(|verb| format!("Verbs::{}.0", verb.to_uppercase())).collect();
    format!("Verbs({})", bits.join("|"))
}

fn strings(list: Option<&&str>) -> String {
    let list: Vec<String> =
        list.into_iter().flat_map(|list| list.split(',')).map(|word| format!("Cow::Borrowed({word:?})")).collect();
    format!("Cow::Borrowed(&[{}])", list.join(","))
}

/// The table as Rust source.
pub fn source(types: &[Resource], definitions: &BTreeMap<String, u32>) -> String {
    let text = std::fs::read_to_string("data/resources.txt").expect("data/resources.txt is there");
    let rows = rows(&text);
    let mut out = format!("static RESOURCES: [Resource; {}] = [\n", rows.len());
    for row in &rows {
        let at = format!("{}/{} {}", row.group, row.version, row.kind);
        let ty = types
            .iter()
            .find(|ty| (ty.group, ty.version, ty.kind) == (row.group, row.version, row.kind))
            .unwrap_or_else(|| panic!("data/resources.txt: k8s-openapi has no {at}"));
        let plural = row.options.get("plural").copied().unwrap_or(ty.plural);
        let singular = row.options.get("singular").map_or_else(|| row.kind.to_lowercase(), |name| (*name).to_owned());
        let storage = row.options.get("storage").map_or((row.group, row.version), |text| group_version(text));
        let hooks = row
            .options
            .get("hooks")
            .map_or_else(|| "crate::strategy::GENERIC".to_owned(), |name| format!("crate::strategy::{name}"));
        let _ = write!(
            out,
            "Resource{{group:Cow::Borrowed({:?}),version:Cow::Borrowed({:?}),kind:Cow::Borrowed({:?}),\
             list_kind:Cow::Borrowed(\"{}List\"),singular:Cow::Borrowed({singular:?}),plural:Cow::Borrowed({plural:?}),\
             short_names:{},categories:{},namespaced:{},verbs:{},schema:SchemaSource::Builtin({}),strategy:&{hooks},\
             storage_group:Cow::Borrowed({:?}),storage_version:Cow::Borrowed({:?}),storage_prefix:Cow::Borrowed({:?}),\
             columns:Cow::Borrowed(&[]),selectable_fields:Cow::Borrowed(&[",
            row.group,
            row.version,
            row.kind,
            row.kind,
            strings(row.options.get("short")),
            strings(row.options.get("categories")),
            ty.namespaced,
            verbs(row.options.get("verbs"), "create,delete,deletecollection,get,list,patch,update,watch"),
            definitions[&ty.definition],
            storage.0,
            storage.1,
            row.options.get("prefix").copied().unwrap_or(plural),
        );
        for field in &row.select {
            let (path, default) = field.split_once('=').unwrap_or((field, ""));
            let _ = write!(out, "SelectableField{{path:Cow::Borrowed({path:?}),default:Cow::Borrowed({default:?})}},");
        }
        out.push_str("]),subresources:Cow::Borrowed(&[");
        for (name, options) in &row.subresources {
            let body = options.get("kind").copied();
            let (group_version_text, kind) = body
                .map(|body| body.rsplit_once('/').unwrap_or_else(|| panic!("data/resources.txt: {body}")))
                .unwrap_or(("", row.kind));
            let (group, version) =
                if body.is_some() { group_version(group_version_text) } else { (row.group, row.version) };
            let _ = write!(
                out,
                "Subresource{{name:Cow::Borrowed({name:?}),group:Cow::Borrowed({group:?}),\
                 version:Cow::Borrowed({version:?}),kind:Cow::Borrowed({kind:?}),verbs:{}}},",
                verbs(options.get("verbs"), "get,patch,update"),
            );
        }
        out.push_str("])},\n");
    }
    out.push_str("];\n");
    out
}
