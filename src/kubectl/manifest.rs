//! `-f`: objects from files, folders and standard input.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::error::Error;

/// Where objects are read from.
#[derive(Debug, Clone, Default, Args)]
pub struct FileFlags {
    /// File, directory, or - for standard input
    #[arg(short = 'f', long = "filename", value_delimiter = ',')]
    pub files: Vec<String>,
    /// Process the directory used in -f, --filename recursively
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Kustomization directories are not supported: this is refused
    #[arg(short = 'k', long, hide = true)]
    pub kustomize: Option<String>,
}

/// An object and where it was read.
#[derive(Debug, Clone)]
pub struct Document {
    pub object: Value,
    pub source: String,
}

impl FileFlags {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.kustomize.is_none()
    }

    /// Reads all objects; the items of a `List` each by itself.
    pub fn read(&self) -> Result<Vec<Document>, Error> {
        if self.kustomize.is_some() {
            return Err(Error::usage(
                "kustomizations (-k) are not supported; build them with kustomize and apply with -f -",
            ));
        }
        let mut documents = Vec::new();
        for file in &self.files {
            if file == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(|cause| Error::File {
                    action: "cannot read",
                    path: PathBuf::from("standard input"),
                    cause,
                })?;
                parse(&text, "STDIN", &mut documents)?;
            } else if file.starts_with("http://") || file.starts_with("https://") {
                return Err(Error::usage(format!(
                    "cannot read {file}: manifests are not downloaded; fetch it first and use -f FILE"
                )));
            } else {
                self.read_path(Path::new(file), true, &mut documents)?;
            }
        }
        Ok(documents)
    }

    fn read_path(&self, path: &Path, named: bool, documents: &mut Vec<Document>) -> Result<(), Error> {
        let failed = |action, cause| Error::File { action, path: path.to_owned(), cause };
        if !path.exists() {
            return Err(Error::NoPath(path.display().to_string()));
        }
        if !path.is_dir() {
            let known = ["json", "yaml", "yml"];
            if !named && !path.extension().is_some_and(|end| known.iter().any(|known| end == *known)) {
                return Ok(());
            }
            let text = fs::read_to_string(path).map_err(|cause| failed("cannot read", cause))?;
            return parse(&text, &path.display().to_string(), documents);
        }
        let entries = fs::read_dir(path).map_err(|cause| failed("cannot read", cause))?;
        let mut entries: Vec<PathBuf> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(|cause| failed("cannot read", cause))?;
        entries.sort();
        for entry in entries {
            if self.recursive || !entry.is_dir() {
                self.read_path(&entry, false, documents)?;
            }
        }
        Ok(())
    }
}

/// The objects of a YAML or JSON text.
fn parse(text: &str, source: &str, documents: &mut Vec<Document>) -> Result<(), Error> {
    for object in parse_yaml(text, source)? {
        match object {
            Value::Null => {}
            Value::Object(ref fields)
                if fields.get("kind").and_then(Value::as_str).is_some_and(|k| k.ends_with("List"))
                    && object["items"].is_array() =>
            {
                for item in object["items"].as_array().into_iter().flatten() {
                    documents.push(Document { object: checked(item.clone(), source)?, source: source.to_owned() });
                }
            }
            object => documents.push(Document { object: checked(object, source)?, source: source.to_owned() }),
        }
    }
    Ok(())
}

/// The documents of a YAML or JSON text, whatever they are.
pub fn parse_yaml(text: &str, source: &str) -> Result<Vec<Value>, Error> {
    let malformed = |cause: String| Error::Manifest { source_name: source.to_owned(), cause };
    if text.trim_start().starts_with('{') {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        if let Ok(values) = values.collect::<Result<Vec<_>, _>>() {
            return Ok(values);
        }
    }
    // `defaultMode: 0400` is octal in the YAML of Kubernetes, which is of version 1.1.
    let options = serde_saphyr::options! { budget: None, legacy_octal_numbers: true };
    serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| malformed(format!("error converting YAML to JSON: yaml: {error}")))
}

fn checked(object: Value, source: &str) -> Result<Value, Error> {
    let mut wrong = Vec::new();
    if !object.is_object() {
        wrong.push("invalid object to validate");
    } else {
        for (field, message) in [("apiVersion", "apiVersion not set"), ("kind", "kind not set")] {
            if object[field].as_str().unwrap_or_default().is_empty() {
                wrong.push(message);
            }
        }
    }
    let problems = match wrong.as_slice() {
        [] => return Ok(object),
        [only] => (*only).to_owned(),
        several => format!("[{}]", several.join(", ")),
    };
    Err(Error::usage(format!(
        "error validating \"{source}\": error validating data: {problems}; if you choose to ignore these errors, turn \
         validation off with --validate=false"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_modes_are_octal() {
        let read = parse_yaml("mode: 0400\n---\nmode: 256\n", "a file").unwrap();
        assert_eq!(read, [serde_json::json!({"mode": 256}), serde_json::json!({"mode": 256})]);
    }

    #[test]
    fn a_folder_is_read_in_order_and_lists_are_taken_apart() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("b.yaml", "apiVersion: v1\nkind: A\n---\n---\napiVersion: v1\nkind: B\n");
        write("a.json", r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"C"}]}"#);
        write("c.txt", "no manifest");
        fs::create_dir(folder.path().join("d")).unwrap();
        write("d/e.yml", "apiVersion: v1\nkind: E");
        let mut flags = FileFlags { files: vec![folder.path().display().to_string()], ..FileFlags::default() };
        let kinds = |flags: &FileFlags| {
            flags.read().unwrap().iter().map(|d| d.object["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&flags), ["C", "A", "B"]);
        flags.recursive = true;
        assert_eq!(kinds(&flags), ["C", "A", "B", "E"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let mut documents = Vec::new();
        let error = parse("x", "f.yaml", &mut documents).unwrap_err().to_string();
        assert!(error.contains("error validating \"f.yaml\": error validating data: invalid object"), "{error}");
        let error = parse("a: 1", "f.yaml", &mut documents).unwrap_err().to_string();
        assert!(error.contains("[apiVersion not set, kind not set]"), "{error}");
        let error = parse("a: [", "f.yaml", &mut documents).unwrap_err().to_string();
        assert!(error.starts_with("error: error parsing f.yaml: "), "{error}");
        let url = FileFlags { files: vec!["https://x/y.yaml".into()], ..FileFlags::default() };
        assert!(url.read().unwrap_err().to_string().contains("not downloaded"));
    }
}
