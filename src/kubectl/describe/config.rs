//! Config maps, secrets and service accounts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::{Writer, items, text};
use crate::line;

pub fn config_map(writer: &mut Writer, object: &Value) {
    writer.head(object);
    line!(writer, 0, "\nData\n====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        line!(writer, 0, "{key}:\n----\n{}\n", text(value));
    }
    line!(writer, 0, "\nBinaryData\n====");
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        line!(writer, 0, "{key}: {} bytes", decoded_length(value));
    }
    line!(writer, 0, "");
}

pub fn secret(writer: &mut Writer, object: &Value) {
    writer.head(object);
    line!(writer, 0, "\nType:\t{}", text(&object["type"]));
    line!(writer, 0, "\nData\n====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        // A token is for reading; other values are not for showing.
        let token = object["type"] == "kubernetes.io/service-account-token" && key == "token";
        match value.as_str().filter(|_| token).and_then(|value| BASE64.decode(value).ok()) {
            Some(bytes) => line!(writer, 0, "{key}:\t{}", String::from_utf8_lossy(&bytes)),
            None => line!(writer, 0, "{key}:\t{} bytes", decoded_length(value)),
        }
    }
}

fn decoded_length(value: &Value) -> usize {
    BASE64.decode(value.as_str().unwrap_or_default()).map_or(0, |bytes| bytes.len())
}

pub fn service_account(writer: &mut Writer, object: &Value) {
    writer.head(object);
    for (title, field) in [("Image pull secrets", "imagePullSecrets"), ("Mountable secrets", "secrets")] {
        let names: Vec<String> = items(&object[field]).map(|entry| text(&entry["name"])).collect();
        line!(writer, 0, "{title}:\t{}", names.first().map_or("<none>", String::as_str));
        for name in names.iter().skip(1) {
            line!(writer, 0, "\t{name}");
        }
    }
    line!(writer, 0, "Tokens:\t<none>");
}
