//! Field selectors: `spec.nodeName=n1,status.phase!=Running`. Which fields a kind offers is the kind's business.

use std::borrow::Cow;
use std::fmt;

use super::ParseError;

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    /// `=` or `==`; otherwise `!=`.
    pub equal: bool,
    /// Unescaped.
    pub value: String,
}

/// Conditions that must all hold; empty matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldRequirement>);

impl FieldSelector {
    pub const fn everything() -> Self {
        Self(Vec::new())
    }

    pub fn equals(field: &str, value: &str) -> Self {
        Self(vec![FieldRequirement {
            field: field.to_owned(),
            equal: true,
            value: value.to_owned(),
        }])
    }

    /// Reads the `fieldSelector` query parameter. `\,`, `\=` and `\\` are literal characters of a value.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut requirements = Vec::new();
        for term in terms(text).into_iter().filter(|term| !term.is_empty()) {
            let Some((field, operator, value)) = split(term) else {
                return Err(ParseError(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            requirements.push(FieldRequirement {
                field: field.to_owned(),
                equal: operator != "!=",
                value: unescape(value)?.into_owned(),
            });
        }
        requirements.sort_by(|a, b| a.field.cmp(&b.field));
        Ok(Self(requirements))
    }

    /// `field` gives the value of a field of the object; absent means empty, as in Kubernetes.
    pub fn matches<'v>(&self, field: impl Fn(&str) -> Option<Cow<'v, str>>) -> bool {
        self.0.iter().all(|requirement| {
            let value = field(&requirement.field).unwrap_or_default();
            (value == requirement.value) == requirement.equal
        })
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.0
    }

    /// The value a field must have, if the selector pins it: `metadata.name=web` makes a list a get.
    pub fn pinned(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|term| term.equal && term.field == field)
            .map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

impl std::str::FromStr for FieldSelector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// Splits at commas that no backslash precedes.
fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split(term: &str) -> Option<(&str, &'static str, &str)> {
    let at = term.char_indices().map(|(index, _)| index);
    at.into_iter().find_map(|index| {
        let operator = ["!=", "==", "="]
            .into_iter()
            .find(|operator| term[index..].starts_with(operator))?;
        Some((&term[..index], operator, &term[index + operator.len()..]))
    })
}

fn unescape(value: &str) -> Result<Cow<'_, str>, ParseError> {
    if !value.contains(['\\', ',', '=']) {
        return Ok(Cow::Borrowed(value));
    }
    let bad_sequence =
        |sequence: &str| ParseError(format!("invalid field selector: invalid escape sequence: {sequence}"));
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                Some(c) => return Err(bad_sequence(&format!("\\{c}"))),
                None => return Err(bad_sequence("\\")),
            },
            // The character's number is what Kubernetes prints here.
            ',' | '=' => {
                let number = c as u32;
                return Err(ParseError(format!(
                    "invalid field selector: unescaped character in value: {number}"
                )));
            }
            c => plain.push(c),
        }
    }
    Ok(Cow::Owned(plain))
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parsing() {
        let texts = [
            "",
            "a=b",
            "metadata.name==x,spec.nodeName!=",
            ",a=b,",
            r"a=b\,c\=d\\",
            "a",
            "a=b=c",
            r"a=\x",
            r"a=b\",
        ];
        let lines: Vec<String> = texts
            .iter()
            .map(|text| match FieldSelector::parse(text) {
                Ok(selector) => format!("{text} -> {selector}"),
                Err(error) => format!("{text} !! {error}"),
            })
            .collect();
        expect![[r#"
             -> 
            a=b -> a=b
            metadata.name==x,spec.nodeName!= -> metadata.name=x,spec.nodeName!=
            ,a=b, -> a=b
            a=b\,c\=d\\ -> a=b\,c\=d\\
            a !! invalid selector: 'a'; can't understand 'a'
            a=b=c !! invalid field selector: unescaped character in value: 61
            a=\x !! invalid field selector: invalid escape sequence: \x
            a=b\ !! invalid field selector: invalid escape sequence: \"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn matching() {
        let field = |name: &str| (name == "status.phase").then_some(Cow::Borrowed("Running"));
        for (text, expected) in [
            ("status.phase=Running", true),
            ("status.phase!=Running", false),
            ("spec.nodeName=", true),
            ("spec.nodeName!=", false),
            ("status.phase=Running,spec.nodeName=x", false),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(field), expected, "{text}");
        }
        assert_eq!(
            FieldSelector::parse("metadata.name=x").unwrap().pinned("metadata.name"),
            Some("x")
        );
    }

    proptest! {
        #[test]
        fn any_value_survives_escaping(value in "\\PC{0,20}") {
            let text = FieldSelector::equals("spec.x", &value).to_string();
            let selector = FieldSelector::parse(&text).unwrap();
            prop_assert_eq!(selector.requirements()[0].value.as_str(), value.as_str());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = FieldSelector::parse(&text);
        }
    }
}
