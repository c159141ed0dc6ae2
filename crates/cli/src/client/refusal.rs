//! What the server refused, in the words kubectl has for it, so that scripts and eyes that know one program know both.

use kube::core::Status;
use std::fmt;

/// A `metav1.Status` that is no success.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `NotFound`, `Invalid`, …
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: &Status) -> Self {
        Self {
            reason: status.reason.clone(),
            message: status.message.clone(),
        }
    }

    /// The line for a user, with what was being done when the server refused.
    pub(crate) fn line(&self, doing: &[String]) -> String {
        // The message of an invalid object names the object itself.
        if self.reason == "Invalid" && self.message.contains("is invalid") {
            return format!("The {}", self.message);
        }
        if self.reason == "Unauthorized" {
            return "error: You must be logged in to the server (Unauthorized); the kubeconfig names no user it knows"
                .to_owned();
        }
        let doing: String = doing.iter().map(|step| format!("{step}: ")).collect();
        match self.reason.as_str() {
            "" => format!("Error from server: {doing}{}", self.message),
            reason => format!("Error from server ({reason}): {doing}{}", self.message),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_in_kubectl() {
        let refusal = |reason: &str, message: &str| Refusal {
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let missing = refusal("NotFound", "pods \"x\" not found");
        assert_eq!(missing.line(&[]), "Error from server (NotFound): pods \"x\" not found");
        assert_eq!(
            refusal("BadRequest", "what?").line(&["cannot apply pod/x".to_owned()]),
            "Error from server (BadRequest): cannot apply pod/x: what?"
        );
        assert_eq!(
            refusal("Invalid", "Pod \"x\" is invalid: spec.containers: Required value")
                .line(&["cannot apply pod/x".to_owned()]),
            "The Pod \"x\" is invalid: spec.containers: Required value"
        );
        assert_eq!(refusal("", "no").line(&[]), "Error from server: no");
    }
}
