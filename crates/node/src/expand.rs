//! `$(NAME)` references in commands, arguments, environment values and `subPathExpr`.
//!
//! Kubernetes' rules: `$$` is a literal `$`, a reference that cannot be resolved stays as written, and nothing is
//! expanded twice.

/// Expands references in `input`; `lookup` knows the variables.
pub(crate) fn expand<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(dollar) = rest.find('$') {
        output.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        rest = match after.chars().next() {
            Some('$') => {
                output.push('$');
                &after[1..]
            }
            Some('(') => match after.find(')') {
                Some(close) => {
                    let name = &after[1..close];
                    match lookup(name) {
                        Some(value) => output.push_str(value),
                        None => output.push_str(&rest[dollar..=dollar + 1 + close]),
                    }
                    &after[close + 1..]
                }
                None => {
                    output.push_str("$(");
                    &after[1..]
                }
            },
            _ => {
                output.push('$');
                after
            }
        };
    }
    output.push_str(rest);
    output
}

/// Names referenced in `input` that `known` does not have.
pub(crate) fn unresolved(input: &str, known: impl Fn(&str) -> bool) -> Option<String> {
    let missing = std::cell::RefCell::new(None);
    expand(input, |name| {
        if !known(name) {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        Some("")
    });
    missing.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(input: &str, expected: &str) {
        let lookup = |name: &str| match name {
            "A" => Some("one"),
            "B" => Some("$(A)"),
            "EMPTY" => Some(""),
            _ => None,
        };
        assert_eq!(expand(input, lookup), expected, "{input}");
    }

    #[test]
    fn follows_the_table_of_the_kubernetes_documentation() {
        for (input, expected) in [
            ("$(A)", "one"),
            ("x$(A)y$(A)", "xoneyone"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$(MISSING)", "$(MISSING)"),
            ("$(B)", "$(A)"),
            ("$(EMPTY)|", "|"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("cost: 5$", "cost: 5$"),
            ("$()", "$()"),
            ("über $(A) ß", "über one ß"),
        ] {
            check(input, expected);
        }
    }

    proptest! {
        #[test]
        fn without_a_dollar_nothing_changes(input in "[^$]*") {
            prop_assert_eq!(expand(&input, |_| Some("x")), input);
        }

        #[test]
        fn any_input_is_survived(input in ".*") {
            let _ = expand(&input, |name| (name.len() % 2 == 0).then_some("v"));
        }
    }
}
