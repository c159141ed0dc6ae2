//! `Warning` headers: what the server did, but wants to be known about (a field it does not honour yet, for example).
//!
//! A layer of the client prints them, so that no verb can forget to. Their form is RFC 7234's: `299 - "text"`.

use http::Response;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Prints the warnings of a response on standard error, each text once in the life of the program.
pub(crate) fn show<B>(response: Response<B>) -> Response<B> {
    static SHOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    for value in response.headers().get_all(http::header::WARNING) {
        for text in texts(&String::from_utf8_lossy(value.as_bytes())) {
            let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
            if !shown.contains(&text) {
                eprintln!("Warning: {text}");
                shown.insert(text);
            }
        }
    }
    response
}

/// The quoted texts of a header value, which may carry several warnings.
fn texts(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut text: Option<String> = None;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (&mut text, character) {
            (None, '"') => text = Some(String::new()),
            (None, _) => {}
            // What follows the text in quotes is a date.
            (Some(_), '"') => texts.extend(text.take().filter(|text| !text.is_empty())),
            (Some(text), '\\') => text.extend(characters.next()),
            // A terminal obeys control characters; the server has no business with it.
            (Some(text), other) => text.extend((!other.is_control()).then_some(other)),
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::texts;

    #[test]
    fn warnings_are_unquoted() {
        assert_eq!(texts(r#"299 - "spec.x is \"old\"""#), ["spec.x is \"old\""]);
        assert_eq!(
            texts(r#"299 - "a, b", 299 host "c" "Sat, 21 Nov 2026""#)[..2],
            ["a, b", "c"]
        );
        assert_eq!(texts("299 - \"\u{1b}[31mred\""), ["[31mred"]);
        assert!(texts("299 - unquoted").is_empty());
    }
}
