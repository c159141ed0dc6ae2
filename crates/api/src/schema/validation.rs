//! What to do about unknown and duplicate fields: the `fieldValidation` query parameter.

use crate::field::Errors;
use crate::{GroupKind, GroupVersionKind, Path, Status};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and say so in `Warning` headers. What the server does when it is not told.
    #[default]
    Warn,
    /// Refuse the request. What `kubectl` asks for.
    Strict,
}

impl FieldValidation {
    /// Reads the parameter; `options` is the kind of the options it belongs to: `CreateOptions`.
    ///
    /// # Errors
    /// 422 naming the supported values.
    pub fn parse(text: &str, options: &'static str) -> Result<Self, Status> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let mut errors = Errors::new();
                errors.not_supported(&Path::new("fieldValidation"), other, &["", "Ignore", "Strict", "Warn"]);
                Err(Status::invalid(
                    &GroupKind::from_static("meta.k8s.io", options),
                    "",
                    &errors,
                ))
            }
        }
    }

    /// The warnings to send, given paths of unknown and duplicate fields.
    ///
    /// # Errors
    /// 400 when strict and there are any.
    pub fn judge(
        self,
        unknown: &[String],
        duplicates: &[String],
        kind: &GroupVersionKind,
    ) -> Result<Vec<String>, Status> {
        let unknown = unknown.iter().map(|path| format!("unknown field \"{path}\""));
        let duplicates = duplicates.iter().map(|path| format!("duplicate field \"{path}\""));
        let found: Vec<String> = duplicates.chain(unknown).collect();
        match self {
            Self::Ignore => Ok(Vec::new()),
            Self::Warn => Ok(found),
            Self::Strict if found.is_empty() => Ok(found),
            Self::Strict => Err(Status::bad_request(format!(
                "{name} in version \"{version}\" cannot be handled as a {name}: strict decoding error: {found}",
                name = kind.kind,
                version = kind.version,
                found = found.join(", "),
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn verdicts() {
        let kind = GroupVersionKind::from_static("apps", "v1", "Deployment");
        let (unknown, duplicates) = (vec!["spec.foo".to_owned()], vec!["spec.paused".to_owned()]);
        let judge = |validation: FieldValidation| format!("{:?}", validation.judge(&unknown, &duplicates, &kind));
        let lines = [
            judge(FieldValidation::Ignore),
            judge(FieldValidation::Warn),
            judge(FieldValidation::Strict),
            format!("{:?}", FieldValidation::Strict.judge(&[], &[], &kind)),
            format!("{:?}", FieldValidation::parse("Maybe", "CreateOptions")),
        ];
        expect![[r#"
            Ok([])
            Ok(["duplicate field \"spec.paused\"", "unknown field \"spec.foo\""])
            Err(400 BadRequest: Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: duplicate field "spec.paused", unknown field "spec.foo")
            Ok([])
            Err(422 Invalid: CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Maybe": supported values: "", "Ignore", "Strict", "Warn")"#]]
        .assert_eq(&lines.join("\n"));
    }
}
