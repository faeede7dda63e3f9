//! The forms of the reviews that webhooks are sent: `AdmissionReview` and `ConversionReview` have the same.

/// The form of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReviewVersion {
    V1,
    /// The same with less to check: for webhooks of before Kubernetes 1.16.
    V1beta1,
}

impl ReviewVersion {
    /// Of a word in `admissionReviewVersions` or `conversionReviewVersions`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        }
    }

    /// `GROUP/VERSION`
    pub fn api_version(self, group: &str) -> String {
        let version = match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        };
        format!("{group}/{version}")
    }
}
