//! `crictl version`, `info` and `runtime-config`

use std::collections::HashMap;

use clap::Args;
use k8s_cri::v1::*;

use crate::connection::Connection;
use crate::error::Error;
use crate::output::{self, Format, print};
use crate::protojson;

/// Display the runtime's version
#[derive(Debug, Args)]
pub struct Version {
    #[arg(short, long, default_value = "table")]
    output: Format,
}

impl Version {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let request = VersionRequest { version: "v1".to_owned() };
        let version =
            cri.runtime.version(request).await.map_err(Error::call("getting the runtime version"))?.into_inner();
        if self.output != Format::Table {
            return output::message(&version, self.output);
        }
        print(format_args!(
            "Version:  {}\nRuntimeName:  {}\nRuntimeVersion:  {}\nRuntimeApiVersion:  {}\n",
            version.version, version.runtime_name, version.runtime_version, version.runtime_api_version
        ))
    }
}

/// Display what the runtime says of itself
#[derive(Debug, Args)]
pub struct Info {
    #[arg(short, long, default_value = "json")]
    output: Format,
    /// Without the runtime's own information
    #[arg(short, long)]
    quiet: bool,
}

impl Info {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let request = StatusRequest { verbose: !self.quiet };
        let answer = cri.runtime.status(request).await.map_err(Error::call("getting status of runtime"))?.into_inner();
        let mut value = output::status(protojson::to_value(&answer.status.unwrap_or_default()), &[], &answer.info);
        value["runtimeHandlers"] = protojson::to_value(&answer.runtime_handlers);
        if let Some(features) = &answer.features {
            value["features"] = protojson::to_value(features);
        }
        output::value(&value, self.output)
    }
}

/// Display the runtime's configuration
#[derive(Debug, Args)]
pub struct RuntimeConfig {
    #[arg(short, long, default_value = "json")]
    output: Format,
}

impl RuntimeConfig {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let answer = cri.runtime.runtime_config(RuntimeConfigRequest {}).await;
        let config = answer.map_err(Error::call("getting the runtime configuration"))?.into_inner();
        let linux = config.linux.unwrap_or_default();
        if self.output == Format::Table {
            return print(format_args!("cgroup driver: {}\n", linux.cgroup_driver().as_str_name()));
        }
        let status = serde_json::json!({ "linux": protojson::to_value(&linux) });
        output::value(&output::status(status, &[], &HashMap::new()), self.output)
    }
}
