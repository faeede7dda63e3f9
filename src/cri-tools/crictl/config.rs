//! `crictl config`: the client's own configuration, read and written.

use std::path::Path;

use clap::Args;
use serde_json::{Map, Value};

use crate::endpoint::CONFIG;
use crate::error::Error;
use crate::output::{line, print};
use crate::table::Table;

/// Get and set the client's configuration
#[derive(Debug, Args)]
pub struct Config {
    /// Show the value of a key
    #[arg(long, value_name = "KEY")]
    get: Option<String>,
    /// Show all keys and values
    #[arg(long)]
    list: bool,
    /// Set a key; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// KEY VALUE, as an older way to set one
    #[arg(num_args = 2, value_names = ["KEY", "VALUE"])]
    pair: Vec<String>,
}

/// What a value must be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Switch,
}

/// The keys of cri-tools. Those that change nothing here are kept for clients that read them.
const KEYS: [(&str, Kind); 6] = [
    ("runtime-endpoint", Kind::Text),
    ("image-endpoint", Kind::Text),
    ("timeout", Kind::Number),
    ("debug", Kind::Switch),
    ("pull-image-on-create", Kind::Switch),
    ("disable-pull-on-run", Kind::Switch),
];

fn kind(key: &str) -> Result<Kind, Error> {
    let known = KEYS.iter().find(|(known, _)| *known == key);
    known.map(|(_, kind)| *kind).ok_or_else(|| {
        let keys = KEYS.map(|(key, _)| key).join(", ");
        Error::Usage(format!("no configuration key named {key:?}; there are {keys}"))
    })
}

fn value(key: &str, text: &str) -> Result<Value, Error> {
    let wrong = |what: &str| Error::Usage(format!("value {text:?} of {key} is no {what}"));
    Ok(match kind(key)? {
        Kind::Text => text.into(),
        Kind::Number => text.trim_end_matches('s').parse::<u64>().map_err(|_| wrong("number of seconds"))?.into(),
        Kind::Switch => text.parse::<bool>().map_err(|_| wrong("boolean; give true or false"))?.into(),
    })
}

/// The file's entries; none if it is not there.
fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    let failed = |detail: String| Error::File { path: path.to_owned(), detail };
    let text = match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => return Ok(Map::new()),
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(failed(error.to_string())),
    };
    serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string()))
}

fn shown(entries: &Map<String, Value>, key: &str) -> Result<String, Error> {
    let zero = match kind(key)? {
        Kind::Text => "",
        Kind::Number => "0",
        Kind::Switch => "false",
    };
    Ok(match entries.get(key) {
        None | Some(Value::Null) => zero.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    })
}

impl Config {
    /// `file`: the one that was named.
    pub fn run(self, file: Option<&Path>) -> Result<(), Error> {
        let path = file.unwrap_or(Path::new(CONFIG));
        let mut entries = read(path)?;
        if let Some(key) = &self.get {
            return line(shown(&entries, key)?);
        }
        if self.list {
            let mut table = Table::new(&["KEY", "VALUE"]);
            for (key, _) in KEYS {
                table.row(vec![key.to_owned(), shown(&entries, key)?]);
            }
            return print(table);
        }
        let mut changes = Vec::new();
        if let [key, text] = self.pair.as_slice() {
            changes.push((key.as_str(), text.as_str()));
        }
        for pair in self.set.iter().flat_map(|pairs| pairs.split(',')) {
            let wrong = || Error::Usage(format!("{pair:?} is no setting; write KEY=VALUE"));
            changes.push(pair.split_once('=').ok_or_else(wrong)?);
        }
        if changes.is_empty() {
            return Err(Error::Usage("nothing to do: give --get, --set or --list".to_owned()));
        }
        for (key, text) in changes {
            entries.insert(key.to_owned(), value(key, text)?);
        }
        let text = k3s_kubectl::yaml(&Value::Object(entries)).to_string();
        std::fs::write(path, text.trim_end().to_owned() + "\n")
            .map_err(|error| Error::File { path: path.to_owned(), detail: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config { get: None, list: false, set: Vec::new(), pair: Vec::new() };
        change(&mut config);
        config
    }

    #[test]
    fn what_is_set_is_read_back_and_the_rest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("crictl.yaml");
        std::fs::write(&path, "debug: true\nunknown: kept\n").unwrap();
        let set = |words: &[&str]| {
            config(|config| config.set = words.iter().map(|word| (*word).to_owned()).collect()).run(Some(&path))
        };
        set(&["runtime-endpoint=unix:///run/x.sock", "timeout=7"]).unwrap();
        config(|config| config.pair = vec!["image-endpoint".into(), "unix:///run/y.sock".into()])
            .run(Some(&path))
            .unwrap();
        let file = crate::endpoint::File::read(Some(&path)).unwrap();
        assert_eq!(
            (file.runtime_endpoint.as_str(), file.image_endpoint.as_str(), file.timeout),
            ("unix:///run/x.sock", "unix:///run/y.sock", 7)
        );
        let entries = read(&path).unwrap();
        assert_eq!((shown(&entries, "debug").unwrap().as_str(), &entries["unknown"]), ("true", &Value::from("kept")));
        for (wrong, word) in [
            ("timeout=soon", "seconds"),
            ("debug=maybe", "true or false"),
            ("colour=red", "no configuration key"),
            ("x", "KEY=VALUE"),
        ] {
            let error = set(&[wrong]).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
