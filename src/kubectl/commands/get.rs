//! `kubectl get`

use clap::Args;
use futures::StreamExt;
use serde_json::Value;

use crate::cluster::{Cluster, JSON, Query};
use crate::discovery::Resource;
use crate::error::Error;
use crate::flags::Context;
use crate::manifest::FileFlags;
use crate::output::jsonpath::{self, Template};
use crate::output::table::{self, Printer};
use crate::output::{self, Format};
use crate::say;
use crate::selector::SelectorFlags;
use crate::target::{self, Target};
use crate::watch;

/// Display one or many resources
#[derive(Debug, Args)]
pub struct Get {
    /// TYPE, TYPE NAME..., TYPE/NAME...
    words: Vec<String>,
    #[command(flatten)]
    files: FileFlags,
    #[command(flatten)]
    select: SelectorFlags,
    /// Output format. One of: (json, yaml, name, wide, jsonpath, jsonpath-file, custom-columns, custom-columns-file)
    #[arg(short, long)]
    output: Option<String>,
    /// Template string to use when -o=jsonpath
    #[arg(long)]
    template: Option<String>,
    /// After listing/getting the requested object, watch for changes
    #[arg(short, long)]
    watch: bool,
    /// Watch for changes to the requested object(s), without listing/getting first
    #[arg(long)]
    watch_only: bool,
    /// Output watch event objects when --watch or --watch-only is used
    #[arg(long)]
    output_watch_events: bool,
    /// When using the default or custom-column output format, don't print headers
    #[arg(long)]
    no_headers: bool,
    /// If non-empty, sort list types using this field specification (a JSONPath expression)
    #[arg(long)]
    sort_by: Option<String>,
    /// When printing, show all labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// If present, list the resource type for the requested object(s)
    #[arg(long)]
    show_kind: bool,
    /// Comma separated list of labels that are going to be presented as columns
    #[arg(short = 'L', long, value_delimiter = ',')]
    label_columns: Vec<String>,
    /// If set to true, suppresses NotFound error for specific objects that do not exist
    #[arg(long)]
    ignore_not_found: bool,
    /// Return large lists in chunks rather than all at once. Pass 0 to disable
    #[arg(long, default_value_t = target::CHUNK)]
    chunk_size: u32,
    /// If specified, gets the subresource of the requested object
    #[arg(long)]
    subresource: Option<String>,
    /// If true, keep the managedFields when printing objects in JSON or YAML format
    #[arg(long)]
    show_managed_fields: bool,
    /// If true, ignore any errors in templates when a field is missing
    #[arg(long, hide = true)]
    allow_missing_template_keys: bool,
    /// Raw URI to request from the server
    #[arg(long, value_name = "PATH")]
    raw: Option<String>,
}

/// The tables of one resource.
struct Group {
    resource: Resource,
    rows: Vec<Value>,
    definitions: Value,
}

pub async fn run(args: Get, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    if let Some(path) = &args.raw {
        let answer = cluster.request(http::Method::GET, path, JSON, JSON, Vec::new()).await?;
        return output::write(String::from_utf8_lossy(&answer));
    }
    let format = Format::parse(args.output.as_deref(), args.template.as_deref())?;
    if args.words.is_empty() && args.files.is_empty() {
        return Err(Error::Plain(
            "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported \
             resources.\n\nerror: Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed \
             description of that resource (e.g. kubectl explain pods).\nSee 'kubectl get -h' for help and examples"
                .to_owned(),
        ));
    }
    let targets = target::targets(&cluster, &args.words, &args.files).await?;
    for target in &targets {
        if target.name.is_some() && target.document.is_none() {
            if args.select.all_namespaces && target.resource.namespaced {
                return Err(Error::usage("a resource cannot be retrieved by name across all namespaces"));
            }
            if args.select.is_selective() {
                return Err(Error::usage("name cannot be provided when a selector is specified"));
            }
        }
    }
    if args.watch || args.watch_only {
        return follow(&args, &format, &cluster, &targets).await;
    }
    if format.is_default() {
        return tables(&args, &format, &cluster, &targets).await;
    }
    objects(&args, &format, &cluster, &targets).await
}

impl Get {
    fn namespace<'t>(&self, target: &'t Target) -> Option<&'t str> {
        (!self.select.all_namespaces).then_some(target.namespace.as_str())
    }

    /// The path of a target: an object, its subresource, or a collection.
    fn path(&self, target: &Target) -> String {
        match &target.name {
            None => target.resource.collection(self.namespace(target)),
            Some(name) => {
                let path = target.resource.path(&target.namespace, name);
                match &self.subresource {
                    Some(subresource) => format!("{path}/{subresource}"),
                    None => path,
                }
            }
        }
    }

    async fn fetch(&self, cluster: &Cluster, target: &Target, accept: &str, query: Query) -> Result<Value, Error> {
        let path = self.path(target);
        match target.name {
            Some(_) => cluster.get_as(&format!("{path}{query}"), accept).await,
            None => {
                let mut query = query;
                let SelectorFlags { selector, field_selector, .. } = &self.select;
                query =
                    query.with_some("labelSelector", Some(selector)).with_some("fieldSelector", Some(field_selector));
                let subject = format!(
                    "{}/{}, Resource={}",
                    target.resource.group, target.resource.version, target.resource.plural
                );
                let refused = |error: Error| match error {
                    Error::Api(mut error) if matches!(error.reason.as_str(), "BadRequest" | "NotFound") => {
                        error.message = if self.select.is_selective() {
                            format!(
                                "Unable to find \"{subject}\" that match label selector \"{selector}\", field selector \
                                 \"{field_selector}\": {}",
                                error.message
                            )
                        } else {
                            format!("Unable to list \"{subject}\": {}", error.message)
                        };
                        Error::Api(error)
                    }
                    other => other,
                };
                cluster.list_as(&path, &query, self.chunk_size, accept).await.map_err(refused)
            }
        }
    }

    fn options(&self, format: &Format, resource: &Resource, several: bool) -> table::Options {
        table::Options {
            wide: matches!(format, Format::Wide),
            no_headers: self.no_headers,
            with_namespace: self.select.all_namespaces && resource.namespaced,
            with_kind: self.show_kind || several,
            show_labels: self.show_labels,
            label_columns: self.label_columns.clone(),
            events: self.output_watch_events && (self.watch || self.watch_only),
        }
    }
}

/// Without a format, or with `-o wide`.
async fn tables(args: &Get, format: &Format, cluster: &Cluster, targets: &[Target]) -> Result<(), Error> {
    let mut groups: Vec<Group> = Vec::new();
    let mut errors = Vec::new();
    let include = if args.sort_by.is_some() { Query::new().with("includeObject", "Object") } else { Query::new() };
    for target in targets {
        let mut table = match args.fetch(cluster, target, table::ACCEPT, include.clone()).await {
            Ok(table) => as_table(table),
            Err(error) if args.ignore_not_found && error.is_not_found() => continue,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let Value::Array(rows) = table["rows"].take() else { continue };
        if rows.is_empty() {
            continue;
        }
        match groups.last_mut().filter(|group| group.resource == target.resource) {
            Some(group) => group.rows.extend(rows),
            None => groups.push(Group {
                resource: target.resource.clone(),
                rows,
                definitions: table["columnDefinitions"].take(),
            }),
        }
    }
    let several = targets.iter().any(|target| target.resource != targets[0].resource);
    for (index, group) in groups.iter_mut().enumerate() {
        if let Some(path) = &args.sort_by {
            sort(&mut group.rows, path, |row| &row["object"])?;
        }
        let table = serde_json::json!({"columnDefinitions": group.definitions.take(), "rows": group.rows});
        let options = args.options(format, &group.resource, several);
        let text = Printer::new(options, group.resource.kind_name()).render(&table, None);
        output::write(format_args!("{}{text}", if index > 0 && !args.no_headers { "\n" } else { "" }))?;
    }
    if groups.is_empty() && errors.is_empty() && !args.ignore_not_found {
        let namespaced = targets.iter().any(|target| target.resource.namespaced);
        if namespaced && !args.select.all_namespaces {
            eprintln!("No resources found in {} namespace.", cluster.namespace);
        } else {
            eprintln!("No resources found");
        }
    }
    Error::collect(errors)
}

/// A server that makes no table of a resource answers with the object or the list.
fn as_table(answer: Value) -> Value {
    if answer["kind"] == "Table" {
        return answer;
    }
    let items = match answer["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![answer],
    };
    let now = jiff::Timestamp::now();
    let rows: Vec<Value> = items
        .into_iter()
        .map(|item| {
            let metadata = &item["metadata"];
            let age = k3s_api::time::age(metadata["creationTimestamp"].as_str(), now);
            serde_json::json!({"cells": [metadata["name"], age], "object": item})
        })
        .collect();
    serde_json::json!({"columnDefinitions": [{"name": "Name", "format": "name", "priority": 0},
        {"name": "Age", "priority": 0}], "rows": rows})
}

/// With a format of objects.
async fn objects(args: &Get, format: &Format, cluster: &Cluster, targets: &[Target]) -> Result<(), Error> {
    let mut items = Vec::new();
    let mut resources = Vec::new();
    let mut errors = Vec::new();
    for target in targets {
        match args.fetch(cluster, target, JSON, Query::new()).await {
            Ok(mut object) => match (&target.name, object["items"].take()) {
                (None, Value::Array(list)) => {
                    for mut item in list {
                        if let Some(fields) = item.as_object_mut() {
                            fields.insert("apiVersion".to_owned(), target.resource.api_version().into());
                            fields.insert("kind".to_owned(), target.resource.kind.clone().into());
                        }
                        items.push(item);
                        resources.push(&target.resource);
                    }
                }
                (_, list) => {
                    if !list.is_null() {
                        object["items"] = list;
                    } else if let Some(fields) = object.as_object_mut() {
                        fields.remove("items");
                    }
                    items.push(object);
                    resources.push(&target.resource);
                }
            },
            Err(error) if args.ignore_not_found && error.is_not_found() => {}
            Err(error) => errors.push(error),
        }
    }
    if let Some(path) = &args.sort_by {
        sort(&mut items, path, |item| item)?;
    }
    if matches!(format, Format::Name) {
        for (item, resource) in items.iter().zip(&resources) {
            say!("{}", resource.named(k3s_api::object::name(item)));
        }
        return Error::collect(errors);
    }
    let single = targets.len() == 1 && targets[0].name.is_some();
    let whole = if single { items.pop() } else { Some(output::list_of(items)) };
    if let Some(mut whole) = whole {
        if !args.show_managed_fields && matches!(format, Format::Json | Format::Yaml) {
            output::hide_managed_fields(&mut whole);
        }
        output::write(format.render(&whole, !args.no_headers)?)?;
    }
    Error::collect(errors)
}

/// `--sort-by`: numbers, quantities and times by value, other things as text; what lacks the field comes first.
fn sort(items: &mut [Value], path: &str, object: impl Fn(&Value) -> &Value) -> Result<(), Error> {
    let template = Template::parse(&jsonpath::relaxed(path))?;
    for item in items.iter() {
        template.values(object(item))?;
    }
    items.sort_by(|a, b| {
        let key = |item: &Value| template.values(object(item)).ok().and_then(|values| values.into_iter().next());
        match (key(a), key(b)) {
            (Some(Value::Number(a)), Some(Value::Number(b))) => {
                a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(std::cmp::Ordering::Equal)
            }
            (Some(Value::String(a)), Some(Value::String(b))) => {
                let quantities = (a.parse::<k3s_api::quantity::Quantity>(), b.parse::<k3s_api::quantity::Quantity>());
                match quantities {
                    (Ok(a), Ok(b)) => a.cmp(&b),
                    _ => a.cmp(&b),
                }
            }
            (a, b) => a.map(|a| jsonpath::go_text(&a)).cmp(&b.map(|b| jsonpath::go_text(&b))),
        }
    });
    Ok(())
}

/// `-w`
async fn follow(args: &Get, format: &Format, cluster: &Cluster, targets: &[Target]) -> Result<(), Error> {
    let [target] = targets else {
        return Err(Error::usage("you may only specify a single resource type"));
    };
    let resource = &target.resource;
    let (accept, include) = match format.is_default() {
        true => (table::ACCEPT, Query::new()),
        false => (JSON, Query::new()),
    };
    let mut printer = Printer::new(args.options(format, resource, false), resource.kind_name());
    let mut first = args.fetch(cluster, target, accept, include).await?;
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let show = |printer: &mut Printer, mut object: Value, event: &str| -> Result<(), Error> {
        match format {
            Format::Default | Format::Wide => output::write(printer.render(&as_table(object), Some(event))),
            Format::Name => output::write(format_args!("{}\n", resource.named(k3s_api::object::name(&object)))),
            _ => {
                if !args.show_managed_fields && matches!(format, Format::Json | Format::Yaml) {
                    output::hide_managed_fields(&mut object);
                }
                if args.output_watch_events {
                    object = serde_json::json!({"type": event, "object": object});
                }
                let separator = if matches!(format, Format::Yaml) { "---\n" } else { "" };
                output::write(format_args!("{separator}{}", format.render(&object, false)?))
            }
        }
    };
    if !args.watch_only {
        match first["items"].take() {
            Value::Array(items) => {
                for item in items {
                    show(&mut printer, item, "ADDED")?;
                }
            }
            _ if first["kind"] == "Table" && first["rows"].as_array().is_none_or(Vec::is_empty) => {}
            _ => show(&mut printer, first, "ADDED")?,
        }
    }
    let namespace = args.namespace(target);
    let mut query = args.select.query().with_some("resourceVersion", Some(&revision));
    if let Some(name) = &target.name {
        query.add("fieldSelector", &format!("metadata.name={name}"));
    }
    let mut events = watch::watch_as(cluster, &resource.collection(namespace), &query, accept).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        if event.kind != "BOOKMARK" {
            show(&mut printer, event.object, &event.kind)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sorts_by_value() {
        let mut items = vec![json!({"n": 10}), json!({"n": 9}), json!({})];
        sort(&mut items, ".n", |item| item).unwrap();
        assert_eq!(items, [json!({}), json!({"n": 9}), json!({"n": 10})]);
        let mut items = vec![json!({"q": "1Gi"}), json!({"q": "500Mi"})];
        sort(&mut items, "{.q}", |item| item).unwrap();
        assert_eq!(items[0], json!({"q": "500Mi"}));
    }
}
