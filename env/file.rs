//! `config.yaml` and the files of `config.yaml.d` beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Error;

/// Keys with their values and the file that had them last.
type Keys = BTreeMap<String, (PathBuf, Vec<String>)>;

/// Reads `path`, then `path`.d/*.yaml in name order: a later file replaces a key, or adds to it if the key ends in `+`.
///
/// # Errors
/// A file that can't be read or is no mapping; a missing `path` only if it is `required`.
pub fn read(path: &Path, required: bool) -> Result<Keys, Error> {
    let mut keys = Keys::new();
    if required || path.exists() {
        merge(&mut keys, path)?;
    }
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let mut files = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect::<Vec<_>>(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(Error::Unreadable { path: folder, source }),
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
    files.sort();
    for file in files {
        merge(&mut keys, &file)?;
    }
    Ok(keys)
}

fn merge(keys: &mut Keys, path: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(());
    }
    let malformed = |detail: String| Error::Malformed { path: path.to_owned(), detail };
    let parsed: Value = serde_saphyr::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    let Value::Object(map) = parsed else { return Err(malformed("it is not a mapping of flags to values".to_owned())) };
    for (key, value) in map {
        let values = match value {
            Value::Array(items) => items.iter().map(scalar).collect::<Option<Vec<_>>>(),
            Value::Null => continue,
            other => scalar(&other).map(|value| vec![value]),
        };
        let values = values.ok_or_else(|| malformed(format!("key {key:?} is neither a value nor a list of values")))?;
        match key.strip_suffix('+') {
            Some(key) => {
                let entry = keys.entry(key.to_owned()).or_insert_with(|| (path.to_owned(), Vec::new()));
                entry.0 = path.to_owned();
                entry.1.extend(values);
            }
            None => {
                keys.insert(key, (path.to_owned(), values));
            }
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// `; did you mean "…"?` for the nearest of `names`, or nothing.
pub fn nearest<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (distance(key, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
