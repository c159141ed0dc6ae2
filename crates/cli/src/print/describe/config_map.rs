//! The page of a config map: keys and texts as they are, since both are data.

use super::{Facts, Page, text};

pub(super) fn write(page: &mut Page, facts: &Facts<'_>) {
    let object = facts.object;
    page.heading(&object["metadata"]);
    page.line(0, "\nData\n====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        page.line(0, format!("{key}:\n----\n{}\n", literal(text(value))));
    }
    page.line(0, "\nBinaryData\n====");
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        let encoded = text(value).trim_end_matches('=').len();
        page.line(0, format!("{key}: {} bytes", encoded * 3 / 4));
    }
    page.line(0, "");
}

/// A tab of the text is not one of the page's.
fn literal(text: &str) -> String {
    text.replace('\t', "    ")
}
