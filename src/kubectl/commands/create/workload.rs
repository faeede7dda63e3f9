//! `kubectl create deployment` and `job`

use clap::Args;
use serde_json::{Value, json};

use super::{CreateFlags, one_name, simple};
use crate::error::Error;
use crate::flags::Context;

#[derive(Debug, Args)]
pub struct Deployment {
    /// NAME
    names: Vec<String>,
    /// Image names to run
    #[arg(long)]
    image: Vec<String>,
    /// Number of replicas to create
    #[arg(short, long, default_value_t = 1)]
    replicas: u32,
    /// The containerPort that this deployment exposes
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    pub flags: CreateFlags,
    /// COMMAND, behind --
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Job {
    /// NAME
    names: Vec<String>,
    /// Image name to run
    #[arg(long)]
    image: Option<String>,
    /// The name of the resource to create a Job from (only cronjob is supported)
    #[arg(long)]
    from: Option<String>,
    #[command(flatten)]
    pub flags: CreateFlags,
    /// COMMAND, behind --
    #[arg(last = true)]
    command: Vec<String>,
}

/// The name of a container: that of its image, without registry, tag and digest.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split(['@', ':']).next().unwrap_or(last);
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '-' }).collect()
}

impl Deployment {
    pub fn object(&self) -> Result<Value, Error> {
        let name = one_name(&self.names, "create deployment")?;
        if self.image.is_empty() {
            return Err(Error::usage("required flag(s) \"image\" not set"));
        }
        if self.image.len() > 1 && !self.command.is_empty() {
            return Err(Error::usage("cannot specify multiple --image options and command"));
        }
        let containers: Vec<Value> = self
            .image
            .iter()
            .enumerate()
            .map(|(index, image)| {
                let mut name = container_name(image);
                if self.image[..index].iter().any(|other| container_name(other) == name) {
                    name = format!("{name}-{index}");
                }
                let mut container = json!({"name": name, "image": image, "resources": {}});
                if !self.command.is_empty() {
                    container["command"] = json!(self.command);
                }
                if let Some(port) = self.port.filter(|_| index == 0) {
                    container["ports"] = json!([{"containerPort": port}]);
                }
                container
            })
            .collect();
        let labels = json!({"app": name});
        let spec = json!({"replicas": self.replicas, "selector": {"matchLabels": labels}, "strategy": {},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}});
        Ok(simple("apps/v1", "Deployment", name, json!({"metadata": {"labels": labels}, "spec": spec, "status": {}})))
    }
}

impl Job {
    pub async fn object(&self, context: &Context) -> Result<Value, Error> {
        let name = one_name(&self.names, "create job")?;
        if let Some(from) = &self.from {
            if self.image.is_some() || !self.command.is_empty() {
                return Err(Error::usage("cannot specify --image or command together with --from"));
            }
            let Some(("cronjob" | "cj" | "cronjobs" | "cronjob.batch", cron)) = from.split_once('/') else {
                return Err(Error::usage("from must be an existing cronjob"));
            };
            let cluster = context.cluster().await?;
            let path = format!("/apis/batch/v1/namespaces/{}/cronjobs/{cron}", cluster.namespace);
            let owner = cluster.get(&path).await?;
            let template = &owner["spec"]["jobTemplate"];
            let mut annotations = template["metadata"]["annotations"].clone();
            annotations["cronjob.kubernetes.io/instantiate"] = json!("manual");
            let metadata = json!({"annotations": annotations, "labels": template["metadata"]["labels"],
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": cron,
                    "uid": owner["metadata"]["uid"], "controller": true}]});
            return Ok(simple("batch/v1", "Job", name, json!({"metadata": metadata, "spec": template["spec"]})));
        }
        let Some(image) = &self.image else { return Err(Error::usage("either --image or --from must be specified")) };
        let mut container = json!({"name": name, "image": image, "resources": {}});
        if !self.command.is_empty() {
            container["command"] = json!(self.command);
        }
        let spec = json!({"template": {"metadata": {}, "spec": {"containers": [container], "restartPolicy": "Never"}}});
        Ok(simple("batch/v1", "Job", name, json!({"spec": spec, "status": {}})))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_after_its_image() {
        for (image, name) in [("nginx", "nginx"), ("a.b:5000/c/d_e:1.2", "d-e"), ("x@sha256:00", "x")] {
            assert_eq!(container_name(image), name);
        }
    }
}
