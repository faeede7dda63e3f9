//! What can go wrong, in kubectl's words.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's answer was a failure.
    #[error("{}", .0.standard_message())]
    Api(Box<ApiError>),
    #[error("The connection to the server {server} was refused - did you specify the right host or port?")]
    Refused { server: String },
    #[error("Unable to connect to the server: {cause}")]
    Unreachable { cause: String },
    #[error("error: the server doesn't have a resource type \"{0}\"")]
    NoResourceType(String),
    #[error(
        "error: resource mapping not found for name: \"{name}\" namespace: \"{namespace}\" from \"{source_name}\": no matches for kind \"{kind}\" in version \"{version}\"\nensure CRDs are installed first"
    )]
    NoKind { name: String, namespace: String, source_name: String, kind: String, version: String },
    /// What was asked for cannot be done; the words are kubectl's.
    #[error("error: {0}")]
    Usage(String),
    /// As [`Error::Usage`], of a message that kubectl prints as it is.
    #[error("{0}")]
    Plain(String),
    #[error("error: error loading config file \"{}\": {cause}", path.display())]
    Kubeconfig { path: PathBuf, cause: String },
    #[error("error: {action} {}: {cause}", path.display())]
    File { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("error: the path \"{0}\" does not exist")]
    NoPath(String),
    #[error("error: error parsing {source_name}: {cause}")]
    Manifest { source_name: String, cause: String },
    #[error("error: the server's answer to {request} cannot be understood: {cause}")]
    Answer { request: String, cause: String },
    #[error("error: cannot write: {0}")]
    Output(io::Error),
    #[error("error: {action}: {cause}")]
    Stream { action: &'static str, cause: String },
    /// A command in a container ended with this exit code.
    #[error("command terminated with exit code {0}")]
    Exit(u8),
    /// All has been said; only the exit code is left.
    #[error("")]
    Silent(u8),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Error>),
}

impl Error {
    /// Prints the error and gives the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            // The reader of a pipe has gone: there is nobody to tell.
            Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return ExitCode::FAILURE,
            Self::Silent(_) => {}
            other => eprintln!("{other}"),
        }
        match self {
            Self::Exit(code) | Self::Silent(code) => ExitCode::from(*code),
            _ => ExitCode::FAILURE,
        }
    }

    /// The server said that the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(error) if error.reason == "NotFound")
    }

    /// The server said that the object changed in the meantime.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(error) if error.reason == "Conflict")
    }

    /// Says what was being done: `error when creating "file.yaml": …`.
    pub fn when(self, verb: &str, source: &str) -> Self {
        match self {
            Self::Api(mut error) if error.reason != "Invalid" => {
                error.message = format!("error when {verb} \"{source}\": {}", error.message);
                Self::Api(error)
            }
            other => other,
        }
    }

    /// No error, the only error, or all of them.
    pub fn collect(mut errors: Vec<Error>) -> Result<(), Error> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    /// A [`Error::Usage`] of any message.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }
}

/// The `Status` of a failed request.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct ApiError {
    pub code: u16,
    pub reason: String,
    pub message: String,
    pub details: Details,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Details {
    pub name: String,
    pub kind: String,
    pub causes: Vec<Cause>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

impl ApiError {
    /// Of a body that may be a `Status`, or plain text.
    pub fn of(code: u16, body: &[u8], what: &str) -> Self {
        match serde_json::from_slice::<ApiError>(body) {
            Ok(error) if !error.message.is_empty() || !error.reason.is_empty() => ApiError { code, ..error },
            _ => Self {
                code,
                reason: if code == 404 { "NotFound".to_owned() } else { String::new() },
                message: match code {
                    404 => "the server could not find the requested resource".to_owned(),
                    _ => format!("unknown ({what}): {}", String::from_utf8_lossy(body).trim()),
                },
                details: Details::default(),
            },
        }
    }

    fn standard_message(&self) -> String {
        match self.reason.as_str() {
            "Invalid" => self.invalid_message(),
            "Unauthorized" => "error: You must be logged in to the server (Unauthorized)".to_owned(),
            "" => format!("Error from server: {}", self.message),
            reason => format!("Error from server ({reason}): {}", self.message),
        }
    }

    fn invalid_message(&self) -> String {
        let Details { name, kind, causes } = &self.details;
        let subject = match (kind.is_empty() && name.is_empty(), causes.is_empty()) {
            (false, _) => format!("The {kind} \"{name}\" is invalid"),
            (true, true) => return format!("The request is invalid: {}", self.message),
            (true, false) => "The request is invalid".to_owned(),
        };
        match causes.as_slice() {
            [] => format!("{subject}: {}", self.message),
            [only] => format!("{subject}: {}", only.line()),
            several => {
                let lines: Vec<String> = several.iter().map(|cause| format!("\n* {}", cause.line())).collect();
                format!("{subject}: {}", lines.concat())
            }
        }
    }
}

impl Cause {
    fn line(&self) -> String {
        if self.field.is_empty() { self.message.clone() } else { format!("{}: {}", self.field, self.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_errors_read_as_in_kubectl() {
        let body = br#"{"kind":"Status","reason":"NotFound","message":"pods \"x\" not found","code":404}"#;
        let error = Error::Api(Box::new(ApiError::of(404, body, "get pods")));
        assert_eq!(error.to_string(), r#"Error from server (NotFound): pods "x" not found"#);
        assert!(error.is_not_found());
        assert_eq!(
            error.when("creating", "f.yaml").to_string(),
            r#"Error from server (NotFound): error when creating "f.yaml": pods "x" not found"#
        );
    }

    #[test]
    fn causes_of_an_invalid_object_are_listed() {
        let one = br#"{"reason":"Invalid","message":"m","details":{"name":"x","kind":"Pod","causes":[{"field":"spec.a","message":"Required value"}]}}"#;
        assert_eq!(ApiError::of(422, one, "").standard_message(), "The Pod \"x\" is invalid: spec.a: Required value");
        let two = br#"{"reason":"Invalid","message":"m","details":{"name":"x","kind":"Pod","causes":[{"field":"a","message":"b"},{"field":"c","message":"d"}]}}"#;
        assert_eq!(ApiError::of(422, two, "").standard_message(), "The Pod \"x\" is invalid: \n* a: b\n* c: d");
    }

    #[test]
    fn an_answer_that_is_no_status_is_shown() {
        let error = ApiError::of(500, b"oops\n", "get pods");
        assert_eq!(error.standard_message(), "Error from server: unknown (get pods): oops");
    }
}
