//! `config.yaml` and the files of `config.yaml.d` beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::Error;

/// A value as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A number or a boolean is what was written: `0644` is not 420, as it would be in YAML 1.1.
    pub value: String,
    pub path: PathBuf,
    pub line: u64,
}

/// What the files say about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where the key stands in the last file that has it.
    pub path: PathBuf,
    pub line: u64,
    pub entries: Vec<Entry>,
}

/// Keys as they are written, but for the `+`.
pub type Keys = BTreeMap<String, Key>;

/// Reads `path`, then the files of `path`.d that end in `.yaml` or `.yml`, in the order of their names. A later file
/// replaces a key; a key that ends in `+` adds to what is there instead.
///
/// # Errors
/// A file that can't be read or is no mapping of texts, numbers, booleans and lists of them; a missing `path` only if
/// it is `required` and has no folder beside it either.
pub fn read(path: &Path, required: bool) -> Result<Keys, Error> {
    let mut keys = Keys::new();
    let beside = drop_ins(path)?;
    if path.exists() || (required && beside.is_empty()) {
        merge(&mut keys, path)?;
    }
    for file in beside {
        merge(&mut keys, &file)?;
    }
    Ok(keys)
}

fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let unreadable = |source| Error::Unreadable { path: folder.clone(), source };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(unreadable)?.path();
        let yaml = file.extension().is_some_and(|it| it.eq_ignore_ascii_case("yaml") || it.eq_ignore_ascii_case("yml"));
        if yaml && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn merge(keys: &mut Keys, path: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    for (key, key_line, entries) in parse(&text, path)? {
        let (name, append) = match key.strip_suffix('+') {
            Some(name) => (name.to_owned(), true),
            None => (key, false),
        };
        let mut new = Key { path: path.to_owned(), line: key_line, entries };
        if let Some(old) = keys.get_mut(&name).filter(|_| append) {
            let mut all = std::mem::take(&mut old.entries);
            all.append(&mut new.entries);
            new.entries = all;
        }
        keys.insert(name, new);
    }
    Ok(())
}

/// The keys of a file in their order, with their lines. A key without a value has no entries.
fn parse(text: &str, path: &Path) -> Result<Vec<(String, u64, Vec<Entry>)>, Error> {
    let malformed = |detail: String| Error::Malformed { path: path.to_owned(), detail };
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    let document: Spanned<Node> = serde_saphyr::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let Node::Map(map) = document.value else {
        return Err(malformed("it is not a mapping of flags to values".to_owned()));
    };
    let mut keys = Vec::new();
    for (key, value) in map {
        let line = key.referenced.line();
        let name = key.value;
        let nodes = match value.value {
            Node::List(items) => items,
            _ => vec![value],
        };
        let mut entries = Vec::new();
        for node in nodes {
            let line = node.referenced.line();
            let value = match node.value {
                Node::Nothing => continue,
                Node::Text(text) => text,
                Node::Plain => written(text, &node)
                    .ok_or_else(|| malformed(format!("line {line}: the value of {name:?} can't be read")))?,
                Node::List(_) | Node::Map(_) => {
                    return Err(malformed(format!(
                        "line {line}: the value of {name:?} is neither a value nor a list of values"
                    )));
                }
            };
            entries.push(Entry { value, path: path.to_owned(), line });
        }
        keys.push((name, line, entries));
    }
    Ok(keys)
}

/// The characters of a number or a boolean.
fn written(text: &str, node: &Spanned<Node>) -> Option<String> {
    let span = node.defined.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    text.get(start..end).map(|value| value.trim().to_owned())
}

/// What YAML has, as far as it matters here.
#[derive(Debug)]
enum Node {
    Nothing,
    Text(String),
    /// A number or a boolean: what counts is how it is written.
    Plain,
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, a list of values or a mapping")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Nothing)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Nothing)
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Plain)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Plain)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Plain)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
                Ok(Node::Plain)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
                Ok(Node::Plain)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Plain)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, u64, Vec<String>)> {
        let keys = parse(text, Path::new("config.yaml")).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        keys.into_iter().map(|(key, line, it)| (key, line, it.into_iter().map(|it| it.value).collect())).collect()
    }

    #[test]
    fn values_are_what_is_written() {
        let text =
            "a: 0644\nb: \"0644\"\nc: true\nd: yes\ne: 1.50\nf: [1, 'x', off]\ng:\nh: 10.42.0.0/16\ni: -7 # odd\n";
        let found = values(text);
        let of = |key: &str| found.iter().find(|(name, ..)| name == key).unwrap().2.clone();
        assert_eq!(of("a"), ["0644"]);
        assert_eq!(of("b"), ["0644"]);
        assert_eq!(of("c"), ["true"]);
        assert_eq!(of("d"), ["yes"]);
        assert_eq!(of("e"), ["1.50"]);
        assert_eq!(of("f"), ["1", "x", "off"]);
        assert!(of("g").is_empty());
        assert_eq!(of("h"), ["10.42.0.0/16"]);
        assert_eq!(of("i"), ["-7"]);
    }

    #[test]
    fn every_value_knows_its_line() {
        let keys = parse("# a comment\n\nx:\n- 1\n- 2\ny: é\nz: 3\n", Path::new("f")).unwrap();
        let lines: Vec<_> = keys.iter().map(|(_, line, it)| (*line, it.iter().map(|it| it.line).collect())).collect();
        assert_eq!(lines, [(3, vec![4, 5]), (6, vec![6]), (7, vec![7])]);
        assert_eq!(keys[2].2[0].value, "3");
    }

    #[test]
    fn what_is_no_mapping_of_values_is_refused() {
        for (text, words) in [
            ("- a\n", "not a mapping"),
            ("a: {b: c}\n", "line 1"),
            ("a:\n- [b]\n", "line 2"),
            ("a: [\n", "line"),
            ("a: 1\na: 2\n", "duplicate"),
        ] {
            let error = parse(text, Path::new("f.yaml")).expect_err(text).to_string();
            assert!(error.contains(words) && error.contains("f.yaml"), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_of_comments_says_nothing() {
        assert!(values("# nothing\n\n").is_empty());
    }
}
