//! `-o custom-columns=NAME:.metadata.name,…`

use serde_json::Value;

use super::columns::Columns;
use super::jsonpath::{self, Template};
use crate::error::Error;

/// Headers and what stands below them.
#[derive(Debug)]
pub struct CustomColumns {
    columns: Vec<(String, Template)>,
}

impl CustomColumns {
    /// Reads `HEADER:path,HEADER:path`.
    pub fn parse(spec: &str) -> Result<Self, Error> {
        let mut columns = Vec::new();
        for part in spec.split(',') {
            let (header, path) = part.split_once(':').filter(|(_, path)| !path.is_empty()).ok_or_else(|| {
                Error::usage(format!("unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"))
            })?;
            columns.push((header.to_owned(), Template::parse(&jsonpath::relaxed(path))?));
        }
        Ok(Self { columns })
    }

    /// Reads a file with a line of headers and a line of paths.
    pub fn parse_file(text: &str) -> Result<Self, Error> {
        let malformed = || Error::usage("expected two lines: headers, and as many JSON paths");
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let (headers, paths) = (lines.next().ok_or_else(malformed)?, lines.next().ok_or_else(malformed)?);
        let (headers, paths): (Vec<&str>, Vec<&str>) =
            (headers.split_whitespace().collect(), paths.split_whitespace().collect());
        if headers.len() != paths.len() {
            return Err(malformed());
        }
        let columns = headers
            .iter()
            .zip(&paths)
            .map(|(header, path)| Ok(((*header).to_owned(), Template::parse(&jsonpath::relaxed(path))?)));
        Ok(Self { columns: columns.collect::<Result<_, Error>>()? })
    }

    /// A row per object: of one, or of the items of a list.
    pub fn render(&self, object: &Value, headers: bool) -> Result<String, Error> {
        let mut rows = Vec::new();
        if headers {
            rows.push(self.columns.iter().map(|(header, _)| header.clone()).collect());
        }
        match object["items"].as_array() {
            Some(items) => {
                for item in items {
                    rows.push(self.row(item)?);
                }
            }
            None => rows.push(self.row(object)?),
        }
        Ok(Columns::new().render(&rows))
    }

    fn row(&self, object: &Value) -> Result<Vec<String>, Error> {
        self.columns
            .iter()
            .map(|(_, template)| {
                let values = template.values(object)?;
                let texts: Vec<String> = values.iter().map(jsonpath::go_text).collect();
                Ok(if texts.is_empty() { "<none>".to_owned() } else { texts.join(",") })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_per_object() {
        let columns = CustomColumns::parse("NAME:.metadata.name,IMAGES:spec.containers[*].image,X:{.x}").unwrap();
        let list = json!({"items": [
            {"metadata": {"name": "a"}, "spec": {"containers": [{"image": "i"}, {"image": "j"}]}},
            {"metadata": {"name": "b"}, "x": null}]});
        assert_eq!(
            columns.render(&list, true).unwrap(),
            "NAME   IMAGES   X\na      i,j      <none>\nb      <none>   <nil>\n"
        );
        assert!(CustomColumns::parse("NAME").unwrap_err().to_string().contains("unexpected custom-columns spec: NAME"));
    }
}
