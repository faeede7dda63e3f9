//! Recorded requests with their answers, and sending them again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::client::{Answer, Client, Request, SILENCE};
use crate::difference::{Difference, differences};
use crate::json::Json;
use crate::normalizer::Normalizer;

/// A file of `suites/`.
#[derive(Deserialize)]
pub struct Suite {
    #[serde(rename = "suite")]
    pub name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    request: Action,
    /// The answer recorded, normalized. A step without one prepares those that follow.
    response: Option<Json>,
    /// Variables to take from the answer: name and path (`metadata.resourceVersion`). Later requests say `${name}`.
    #[serde(default)]
    save: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Action {
    /// Wait, seconds.
    Sleep { sleep: f64 },
    /// Read events until the server ends the watch, which it does within so many seconds.
    Watch { watch: f64, path: String },
    Call {
        method: String,
        path: String,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        body: Option<Json>,
        token: Option<String>,
    },
}

/// What came of a suite.
pub struct Outcome {
    pub suite: String,
    /// Answers compared.
    pub total: usize,
    /// Answers that differ, by the number of their step in the suite, from 1.
    pub different: BTreeMap<usize, DifferentAnswer>,
}

pub struct DifferentAnswer {
    /// Method and path.
    pub request: String,
    pub differences: Vec<Difference>,
}

impl Outcome {
    pub fn same(&self) -> usize {
        self.total - self.different.len()
    }
}

impl Suite {
    /// The suites of a folder in the order to send them: the first two see a cluster in which nothing was made yet.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            names.extend(entry?.file_name().into_string().ok().filter(|name| name.ends_with(".json")));
        }
        let first = ["bootstrap.json", "discovery.json"];
        names.sort_by_key(|name| (first.iter().position(|first| first == name).unwrap_or(first.len()), name.clone()));
        let read = |name: &String| {
            let text = std::fs::read(folder.join(name))?;
            serde_json::from_slice(&text).with_context(|| format!("cannot read suite {name}"))
        };
        names.iter().map(read).collect()
    }

    /// Sends the requests one after the other and compares the answers.
    pub fn replay(&self, client: &Client) -> Outcome {
        let mut replay =
            Replay { client, normalizer: Normalizer::of_server(client.port()), variables: BTreeMap::new() };
        let mut outcome = Outcome { suite: self.name.clone(), total: 0, different: BTreeMap::new() };
        for (number, step) in (1..).zip(&self.steps) {
            let got = replay.perform(step);
            let Some(want) = &step.response else { continue };
            outcome.total += 1;
            let differences = differences(want, &got);
            if !differences.is_empty() {
                outcome.different.insert(number, DifferentAnswer { request: step.request.to_string(), differences });
            }
        }
        outcome
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sleep { sleep } => write!(f, "sleep {sleep}"),
            Self::Watch { path, .. } => write!(f, "WATCH {path}"),
            Self::Call { method, path, .. } => write!(f, "{method} {path}"),
        }
    }
}

/// What is remembered from step to step.
struct Replay<'a> {
    client: &'a Client,
    normalizer: Normalizer,
    variables: BTreeMap<String, String>,
}

impl Replay<'_> {
    /// Does a step. Returns the answer in the shape in which answers are recorded.
    fn perform(&mut self, step: &Step) -> Json {
        let members = match &step.request {
            Action::Sleep { sleep } => {
                std::thread::sleep(Duration::from_secs_f64(*sleep));
                Ok(Vec::new())
            }
            Action::Watch { watch, path } => self.watch(path, *watch),
            Action::Call { method, path, headers, body, token } => {
                self.call(method, path, headers, body.as_ref(), token.as_deref(), &step.save)
            }
        };
        let failed = |error: anyhow::Error| {
            vec![
                ("status".to_owned(), Json::Number(0.into())),
                ("error".to_owned(), Json::string(format!("{error:#}"))),
            ]
        };
        Json::Object(members.unwrap_or_else(failed))
    }

    fn watch(&mut self, path: &str, seconds: f64) -> Result<Vec<(String, Json)>> {
        let path = self.expand(path);
        let silence = Duration::from_secs_f64(seconds + 10.0);
        let answer = self.client.send(&Request { silence, ..Request::get(&path) })?;
        let lines = answer.body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let events = lines.map(|line| Ok(self.normalizer.value(serde_json::from_slice(line)?)));
        let events = events.collect::<Result<Vec<_>>>()?;
        Ok(vec![status(&answer), ("events".to_owned(), Json::Array(events))])
    }

    fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &BTreeMap<String, String>,
        body: Option<&Json>,
        token: Option<&str>,
        save: &BTreeMap<String, String>,
    ) -> Result<Vec<(String, Json)>> {
        let path = self.expand(path);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), self.expand(value))).collect();
        let token = token.map(|token| self.expand(token));
        let body = body.map(|body| match self.expand_json(body) {
            // Sent as it is: that is how broken JSON and YAML are recorded.
            Json::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        });
        let answer = self.client.send(&Request {
            method,
            path: &path,
            headers: headers.iter().map(|(name, value)| (*name, value.as_str())).collect(),
            body,
            token: token.as_deref(),
            silence: SILENCE,
        })?;
        let content_type = Json::string(answer.all("content-type").last().unwrap_or_default());
        let mut members = vec![status(&answer), ("contentType".to_owned(), content_type)];
        let warnings: Vec<_> = answer.all("warning").map(Json::string).collect();
        if !warnings.is_empty() {
            members.push(("warnings".to_owned(), Json::Array(warnings)));
        }
        members.push(match serde_json::from_slice(&answer.body) {
            Ok(Json::Null) | Err(_) => {
                let text = self.normalizer.text(&String::from_utf8_lossy(&answer.body));
                ("text".to_owned(), Json::String(text.chars().take(4000).collect()))
            }
            Ok(parsed) => {
                self.save(&parsed, save);
                ("body".to_owned(), self.normalizer.value(parsed))
            }
        });
        Ok(members)
    }

    /// Takes variables from an answer. One that the answer has not is left as it was; the requests that need it show it.
    fn save(&mut self, answer: &Json, save: &BTreeMap<String, String>) {
        for (name, path) in save {
            let value = path.split('.').try_fold(answer, |value, key| value.get(key));
            let text = match value {
                None => continue,
                Some(Json::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            self.variables.insert(name.clone(), text);
        }
    }

    fn expand(&self, text: &str) -> String {
        let replace = |text: String, (name, value): (&String, &String)| text.replace(&format!("${{{name}}}"), value);
        self.variables.iter().fold(text.to_owned(), replace)
    }

    fn expand_json(&self, value: &Json) -> Json {
        match value {
            Json::String(text) => Json::String(self.expand(text)),
            Json::Array(items) => Json::Array(items.iter().map(|item| self.expand_json(item)).collect()),
            Json::Object(members) => {
                Json::Object(members.iter().map(|(key, value)| (key.clone(), self.expand_json(value))).collect())
            }
            other => other.clone(),
        }
    }
}

fn status(answer: &Answer) -> (String, Json) {
    ("status".to_owned(), Json::Number(answer.status.into()))
}
