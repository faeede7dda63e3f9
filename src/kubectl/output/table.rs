//! Tables as the server makes them (`meta.k8s.io/v1` `Table`), shown as `kubectl get` does.

use serde_json::Value;

use super::columns::Columns;

/// What to ask the server for.
pub const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Which columns there are besides the server's.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub wide: bool,
    pub no_headers: bool,
    pub with_namespace: bool,
    /// Before names: several resources are shown.
    pub with_kind: bool,
    pub show_labels: bool,
    /// `-L`
    pub label_columns: Vec<String>,
    /// In front of each row of a watch.
    pub events: bool,
}

/// Shows the tables of one resource, in which the columns stay in line.
pub struct Printer {
    options: Options,
    columns: Columns,
    /// `deployment.apps`
    kind_name: String,
    definitions: Vec<Definition>,
    headers_shown: bool,
}

#[derive(Debug, Clone)]
struct Definition {
    name: String,
    is_name: bool,
    priority: i64,
}

impl Printer {
    pub fn new(options: Options, kind_name: String) -> Self {
        Self { options, columns: Columns::new(), kind_name, definitions: Vec::new(), headers_shown: false }
    }

    /// The text of a table. `event` is the type of a watch event.
    pub fn render(&mut self, table: &Value, event: Option<&str>) -> String {
        // The later tables of a watch don't say their columns.
        if let Some(definitions) = table["columnDefinitions"].as_array().filter(|list| !list.is_empty()) {
            self.definitions = definitions
                .iter()
                .map(|definition| Definition {
                    name: definition["name"].as_str().unwrap_or_default().to_owned(),
                    is_name: definition["format"] == "name",
                    priority: definition["priority"].as_i64().unwrap_or_default(),
                })
                .collect();
        }
        let mut rows = Vec::new();
        if !self.options.no_headers && !self.headers_shown {
            rows.push(self.header());
            self.headers_shown = true;
        }
        for row in table["rows"].as_array().into_iter().flatten() {
            rows.push(self.row(row, event));
        }
        self.columns.render(&rows)
    }

    fn shown(&self, definition: &Definition) -> bool {
        self.options.wide || definition.priority == 0
    }

    fn header(&self) -> Vec<String> {
        let mut cells = Vec::new();
        if self.options.events {
            cells.push("EVENT".to_owned());
        }
        if self.options.with_namespace {
            cells.push("NAMESPACE".to_owned());
        }
        let shown = self.definitions.iter().filter(|definition| self.shown(definition));
        cells.extend(shown.map(|definition| definition.name.to_uppercase()));
        cells.extend(
            self.options.label_columns.iter().map(|label| label.rsplit('/').next().unwrap_or_default().to_uppercase()),
        );
        if self.options.show_labels {
            cells.push("LABELS".to_owned());
        }
        cells
    }

    fn row(&self, row: &Value, event: Option<&str>) -> Vec<String> {
        let metadata = &row["object"]["metadata"];
        let labels = metadata["labels"].as_object();
        let mut cells = Vec::new();
        if self.options.events {
            cells.push(event.unwrap_or_default().to_owned());
        }
        if self.options.with_namespace {
            cells.push(metadata["namespace"].as_str().unwrap_or_default().to_owned());
        }
        for (definition, cell) in self.definitions.iter().zip(row["cells"].as_array().into_iter().flatten()) {
            if !self.shown(definition) {
                continue;
            }
            let text = cell_text(cell);
            if definition.is_name && self.options.with_kind && !text.is_empty() {
                cells.push(format!("{}/{text}", self.kind_name));
            } else {
                cells.push(text);
            }
        }
        for label in &self.options.label_columns {
            let value = labels.and_then(|labels| labels.get(label)).and_then(Value::as_str);
            cells.push(value.unwrap_or_default().to_owned());
        }
        if self.options.show_labels {
            let texts: Vec<String> = labels
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect();
            cells.push(if texts.is_empty() { "<none>".to_owned() } else { texts.join(",") });
        }
        cells
    }
}

/// A cell; of a text of several lines only the first.
fn cell_text(cell: &Value) -> String {
    match cell {
        Value::String(text) => match text.find(['\n', '\r', '\u{c}']) {
            Some(end) => format!("{}...", &text[..end]),
            None => text.clone(),
        },
        Value::Null => String::new(),
        other => super::jsonpath::go_text(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Value {
        json!({"columnDefinitions": [{"name": "Name", "format": "name", "priority": 0}, {"name": "Ready", "priority": 0},
            {"name": "Node", "priority": 1}],
            "rows": [{"cells": ["web", "1/1", "n1"], "object": {"metadata": {"namespace": "default", "labels": {"app.k8s.io/x": "y"}}}},
                {"cells": ["b", "two\nlines", null], "object": {"metadata": {"namespace": "kube-system"}}}]})
    }

    fn render(options: Options) -> String {
        Printer::new(options, "pod".to_owned()).render(&table(), Some("ADDED"))
    }

    #[test]
    fn columns_are_those_asked_for() {
        assert_eq!(render(Options::default()), "NAME   READY\nweb    1/1\nb      two...\n");
        let wide = Options { wide: true, with_namespace: true, ..Options::default() };
        assert_eq!(
            render(wide),
            "NAMESPACE     NAME   READY    NODE\ndefault       web    1/1      n1\nkube-system   b      two...   \n"
        );
        let labels = Options {
            show_labels: true,
            label_columns: vec!["app.k8s.io/x".into()],
            no_headers: true,
            ..Options::default()
        };
        assert_eq!(
            render(labels),
            "web   1/1      y   app.k8s.io/x=y\nb     two...       <none>\n"
                .replace("y   app", "y     app")
                .replace("    <none>", "      <none>")
        );
        let kinds = Options { with_kind: true, events: true, ..Options::default() };
        assert_eq!(render(kinds), "EVENT   NAME      READY\nADDED   pod/web   1/1\nADDED   pod/b     two...\n");
    }

    #[test]
    fn a_watch_shows_headers_once() {
        let mut printer = Printer::new(Options::default(), "pod".to_owned());
        printer.render(&table(), None);
        let change = json!({"columnDefinitions": null, "rows": [{"cells": ["web", "0/1", "n1"], "object": {}}]});
        assert_eq!(printer.render(&change, None), "web    0/1\n");
    }
}
