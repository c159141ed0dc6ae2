//! Fields that an apply would take from others.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;

use super::element::{Element, display_path};
use super::managers::Owner;
use crate::Status;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub owner: Owner,
    pub path: Vec<Element>,
}

/// One or more conflicts, ordered by owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

impl Conflicts {
    fn message(&self) -> String {
        if let [only] = self.0.as_slice() {
            let (owner, path) = (only.owner.describe(), display_path(&only.path));
            return format!("Apply failed with 1 conflict: conflict with {owner}: {path}");
        }
        let mut lines: Vec<String> = Vec::new();
        let mut last = None;
        for conflict in &self.0 {
            if last != Some(&conflict.owner) {
                lines.push(format!("conflicts with {}:", conflict.owner.describe()));
                last = Some(&conflict.owner);
            }
            lines.push(format!("- {}", display_path(&conflict.path)));
        }
        format!("Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }

    /// 409 with one cause for each field.
    pub fn into_status(self) -> Status {
        let causes = self.0.iter().map(|conflict| StatusCause {
            field: Some(display_path(&conflict.path)),
            message: Some(format!("conflict with {}", conflict.owner.describe())),
            reason: Some("FieldManagerConflict".to_owned()),
        });
        Status::apply_conflict(self.message(), causes.collect())
    }
}
