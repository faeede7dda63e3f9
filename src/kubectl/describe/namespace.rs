//! Namespaces, with their quotas and limits.

use serde_json::Value;

use super::{Writer, items, text};
use crate::cluster::{Cluster, Query};
use crate::error::Error;
use crate::line;
use crate::target::CHUNK;

pub async fn describe(writer: &mut Writer, cluster: &Cluster, object: &Value) -> Result<(), Error> {
    writer.head(object);
    line!(writer, 0, "Status:\t{}", text(&object["status"]["phase"]));
    let name = k3s_api::object::name(object);
    let quotas = cluster.list(&format!("/api/v1/namespaces/{name}/resourcequotas"), &Query::new(), CHUNK).await?;
    if items(&quotas["items"]).count() == 0 {
        line!(writer, 0, "\nNo resource quota.");
    } else {
        line!(writer, 0, "\nResource Quotas");
        for quota in items(&quotas["items"]) {
            line!(writer, 1, "Name:\t{}", k3s_api::object::name(quota));
            line!(writer, 1, "Resource\tUsed\tHard");
            line!(writer, 1, "--------\t---\t---");
            for (resource, hard) in quota["status"]["hard"].as_object().into_iter().flatten() {
                line!(writer, 1, "{resource}\t{}\t{}", text(&quota["status"]["used"][resource]), text(hard));
            }
        }
    }
    let limits = cluster.list(&format!("/api/v1/namespaces/{name}/limitranges"), &Query::new(), CHUNK).await?;
    if items(&limits["items"]).count() == 0 {
        line!(writer, 0, "\nNo LimitRange resource.");
    } else {
        line!(
            writer,
            0,
            "\nResource Limits\n Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio"
        );
        line!(writer, 0, " ----\t--------\t---\t---\t---------------\t-------------\t-----------------------");
        for limit in items(&limits["items"]).flat_map(|range| items(&range["spec"]["limits"])) {
            let mut names: Vec<&String> = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"]
                .iter()
                .flat_map(|field| limit[*field].as_object().into_iter().flat_map(|map| map.keys()))
                .collect();
            names.sort();
            names.dedup();
            for resource in names {
                let cell = |field: &str| super::or(&limit[field][resource], "-");
                let cells =
                    [cell("min"), cell("max"), cell("defaultRequest"), cell("default"), cell("maxLimitRequestRatio")];
                line!(writer, 0, " {}\t{resource}\t{}", text(&limit["type"]), cells.join("\t"));
            }
        }
    }
    Ok(())
}
