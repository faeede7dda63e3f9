//! `kubectl explain`: the server's OpenAPI v3, told for people.

use clap::Args;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::discovery::Resource;
use crate::error::Error;
use crate::flags::Context;
use crate::output;

const REF: &str = "#/components/schemas/";
/// Descriptions are wrapped to lines of so many characters.
const WIDTH: usize = 76;

/// Get documentation for a resource
#[derive(Debug, Args)]
pub struct Explain {
    /// TYPE[.FIELD...]
    path: String,
    /// When true, print the name of all the fields recursively
    #[arg(long)]
    recursive: bool,
    /// Use given api-version (group/version) of the resource
    #[arg(long)]
    api_version: Option<String>,
    /// plaintext or plaintext-openapiv2
    #[arg(short, long, default_value = "plaintext", hide = true)]
    output: String,
}

pub async fn run(args: Explain, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    let (resource, fields) = resource(&args, &cluster).await?;
    let document = openapi(&cluster, &resource).await?;
    let schemas = Schemas { schemas: &document["components"]["schemas"] };
    let mut schema = schemas.of_kind(&resource).ok_or_else(|| {
        Error::usage(format!("couldn't find resource for \"{}, Kind={}\"", resource.api_version(), resource.kind))
    })?;
    let mut text = String::new();
    if !resource.group.is_empty() {
        text.push_str(&format!("GROUP:      {}\n", resource.group));
    }
    text.push_str(&format!("KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version));
    let mut field = None;
    for name in &fields {
        let Some(next) = schemas.field(schema, name) else {
            output::write(text)?;
            return Err(Error::usage(format!("field \"{name}\" does not exist")));
        };
        field = Some((name, schemas.type_name(next), next));
        schema = schemas.inner(next);
    }
    let mut description = schema["description"].as_str().unwrap_or_default().to_owned();
    if let Some((name, kind, own)) = field {
        text.push_str(&format!("FIELD: {name} <{kind}>\n\n"));
        if let Some(own) = own["description"].as_str() {
            // What the field is, then what its type is.
            description = match description.is_empty() || description == own {
                true => own.to_owned(),
                false => format!("{own}\n{description}"),
            };
        }
        text.push_str(&enumeration(own, 0));
        text.push('\n');
    }
    text.push_str("DESCRIPTION:\n");
    for line in wrap(&description, WIDTH) {
        text.push_str(&format!("    {line}\n"));
    }
    text.push_str("    \n");
    if schema["properties"].is_object() {
        text.push_str("FIELDS:\n");
        schemas.list(schema, args.recursive, 1, &mut Vec::new(), &mut text);
    }
    text.push('\n');
    output::write(text)
}

/// The resource a path begins with, and the fields behind it. A resource may have dots in it (`ingresses.networking.k8s.io`).
async fn resource(args: &Explain, cluster: &Cluster) -> Result<(Resource, Vec<String>), Error> {
    let discovery = cluster.discovery().await?;
    let parts: Vec<&str> = args.path.split('.').collect();
    let resource = discovery.find(parts[0])?;
    let fields = parts[1..].iter().filter(|part| !part.is_empty()).map(|part| (*part).to_owned()).collect();
    let Some(version) = &args.api_version else { return Ok((resource.clone(), fields)) };
    let same = discovery.resources.iter().find(|own| own.plural == resource.plural && own.api_version() == *version);
    let same =
        same.ok_or_else(|| Error::usage(format!("couldn't find resource for \"{version}, Kind={}\"", resource.kind)))?;
    Ok((same.clone(), fields))
}

async fn openapi(cluster: &Cluster, resource: &Resource) -> Result<Value, Error> {
    let index = cluster.get("/openapi/v3").await?;
    let root = if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}", resource.api_version())
    };
    let path = index["paths"][&root]["serverRelativeURL"].as_str();
    let path =
        path.ok_or_else(|| Error::usage(format!("the server has no OpenAPI document of {}", resource.api_version())))?;
    cluster.get(path).await
}

struct Schemas<'d> {
    schemas: &'d Value,
}

impl<'d> Schemas<'d> {
    fn of_kind(&self, resource: &Resource) -> Option<&'d Value> {
        let is_kind = |schema: &&Value| {
            schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten().any(|own| {
                own["group"] == resource.group.as_str()
                    && own["version"] == resource.version.as_str()
                    && own["kind"] == resource.kind.as_str()
            })
        };
        self.schemas.as_object()?.values().find(is_kind)
    }

    /// The schema a reference names; the schema itself if it is none.
    fn resolve(&self, schema: &'d Value) -> &'d Value {
        let reference = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str());
        reference.and_then(|path| path.strip_prefix(REF)).map_or(schema, |name| &self.schemas[name])
    }

    /// The schema of what is in a list or a map; of an object itself.
    fn inner(&self, schema: &'d Value) -> &'d Value {
        let schema = self.resolve(schema);
        if schema["items"].is_object() {
            self.inner(&schema["items"])
        } else if schema["additionalProperties"].is_object() {
            self.inner(&schema["additionalProperties"])
        } else {
            schema
        }
    }

    fn field(&self, schema: &'d Value, name: &str) -> Option<&'d Value> {
        self.inner(schema)["properties"].get(name)
    }

    /// `string`, `[]Container`, `map[string]string`, `PodSpec`
    fn type_name(&self, schema: &'d Value) -> String {
        let reference = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str());
        let target = self.resolve(schema);
        if target["items"].is_object() {
            return format!("[]{}", self.type_name(&target["items"]));
        }
        if target["additionalProperties"].is_object() {
            return format!("map[string]{}", self.type_name(&target["additionalProperties"]));
        }
        match (target["type"].as_str(), reference) {
            // A named scalar (a time) goes by what it is.
            (Some(kind), _) if kind != "object" => kind.to_owned(),
            (_, Some(name)) => name.rsplit('.').next().unwrap_or(name).to_owned(),
            (_, None) => "Object".to_owned(),
        }
    }

    fn list(&self, schema: &'d Value, recursive: bool, level: usize, seen: &mut Vec<&'d Value>, text: &mut String) {
        let indent = "  ".repeat(level);
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let mark = if required.contains(&name.as_str()) { " -required-" } else { "" };
            text.push_str(&format!("{indent}{name}\t<{}>{mark}\n", self.type_name(field)));
            text.push_str(&enumeration(field, level));
            if recursive {
                let inner = self.inner(field);
                // JSONSchemaProps holds itself.
                if inner["properties"].is_object() && !seen.iter().any(|own| std::ptr::eq(*own, inner)) {
                    seen.push(inner);
                    self.list(inner, true, level + 1, seen, text);
                    seen.pop();
                }
                continue;
            }
            let description = field["description"]
                .as_str()
                .or(self.resolve(field)["description"].as_str())
                .unwrap_or("<no description>");
            for line in wrap(description, WIDTH) {
                text.push_str(&format!("{indent}  {line}\n"));
            }
            text.push('\n');
        }
    }
}

/// `enum: A, B`
fn enumeration(field: &Value, level: usize) -> String {
    let values: Vec<String> = field["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    if values.is_empty() {
        return String::new();
    }
    let more = if values.len() > 4 { ", ...." } else { "" };
    format!("{}enum: {}{more}\n", "  ".repeat(level), values[..values.len().min(4)].join(", "))
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    if lines.is_empty() {
        lines.push("<empty>".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_are_named() {
        let document = json!({"a.b.Container": {"type": "object", "properties": {"name": {"type": "string"}}}, "a.Time": {"type": "string"}});
        let schemas = Schemas { schemas: &document };
        for (schema, name) in [
            (json!({"type": "string"}), "string"),
            (
                json!({"type": "array", "items": {"allOf": [{"$ref": "#/components/schemas/a.b.Container"}]}}),
                "[]Container",
            ),
            (json!({"type": "object", "additionalProperties": {"type": "string"}}), "map[string]string"),
            (json!({"$ref": "#/components/schemas/a.Time"}), "string"),
        ] {
            let schema = Box::leak(Box::new(schema));
            let schemas = Schemas { schemas: Box::leak(Box::new(schemas.schemas.clone())) };
            assert_eq!(schemas.type_name(schema), name);
        }
    }

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(wrap("aa bb cc\n\nd", 5), ["aa bb", "cc", "", "d"]);
    }
}
