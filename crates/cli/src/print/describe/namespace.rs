//! The page of a namespace.

use super::{Facts, Page, text};

pub(super) fn write(page: &mut Page, facts: &Facts<'_>) {
    let metadata = &facts.object["metadata"];
    page.heading(metadata);
    page.field(0, "Status", text(&facts.object["status"]["phase"]));
    for condition in super::array(&facts.object["status"]["conditions"]) {
        if condition["status"] == "True" {
            let (reason, message) = (text(&condition["reason"]), text(&condition["message"]));
            page.field(1, text(&condition["type"]), format!("{reason}: {message}"));
        }
    }
}
