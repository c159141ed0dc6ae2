//! The page of a service account.

use super::{Facts, Page, array, text};
use serde_json::Value;

pub(super) fn write(page: &mut Page, facts: &Facts<'_>) {
    let object = facts.object;
    let names = |references: &Value| -> Vec<String> {
        array(references)
            .iter()
            .map(|reference| text(&reference["name"]).to_owned())
            .collect()
    };
    page.heading(&object["metadata"]);
    page.list(0, "Image pull secrets", &names(&object["imagePullSecrets"]));
    page.list(0, "Mountable secrets", &names(&object["secrets"]));
}
