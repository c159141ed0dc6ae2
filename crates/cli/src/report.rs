//! How errors are told: one line on standard error, the server's refusals in kubectl's words, our own after `error:`.

use crate::client::refusal::Refusal;

/// Prints the line of an error.
pub(crate) fn print(error: &anyhow::Error) {
    eprintln!("{}", line(error));
}

fn line(error: &anyhow::Error) -> String {
    let mut doing = Vec::new();
    for cause in error.chain() {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return flat(&refusal.line(&doing));
        }
        doing.push(flat(&cause.to_string()));
    }
    format!("error: {}", chained(error))
}

/// The whole chain of causes, without repeating what a cause already said.
fn chained(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = match cause.downcast_ref::<kube::Error>() {
            // Its own Display spells out the whole Status.
            Some(kube::Error::Api(status)) => status.message.clone(),
            _ => cause.to_string(),
        };
        let cause = flat(&cause);
        if !line.contains(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
    }
    line
}

fn flat(text: &str) -> String {
    text.trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn errors_are_one_line_and_say_nothing_twice() {
        let error = anyhow!("no such file")
            .context("cannot read x: no such file")
            .context("cannot apply");
        assert_eq!(line(&error), "error: cannot apply: cannot read x: no such file");
        assert_eq!(line(&anyhow!("a\nb")), "error: a b");
    }

    #[test]
    fn refusals_keep_what_was_being_done() {
        let refusal = Refusal {
            reason: "Conflict".to_owned(),
            message: "not\nnow".to_owned(),
        };
        let error = anyhow::Error::new(refusal).context("cannot apply pod/x");
        assert_eq!(
            line(&error),
            "Error from server (Conflict): cannot apply pod/x: not now"
        );
    }
}
