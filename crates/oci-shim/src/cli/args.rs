//! runc's command line: global options, a verb, its options, and from the first plain word on only plain words (the
//! command of `exec` has options of its own).

use std::collections::BTreeMap;
use std::ffi::OsString;

/// An option: its names (the long one first) and whether a value follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    pub long: &'static str,
    pub short: Option<&'static str>,
    pub value: bool,
}

pub(super) const fn switch(long: &'static str, short: Option<&'static str>) -> Flag {
    Flag {
        long,
        short,
        value: false,
    }
}

pub(super) const fn value(long: &'static str, short: Option<&'static str>) -> Flag {
    Flag {
        long,
        short,
        value: true,
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    values: BTreeMap<&'static str, Vec<String>>,
    pub words: Vec<String>,
}

impl Parsed {
    /// The last value of an option.
    pub(super) fn get(&self, long: &str) -> Option<&str> {
        self.values.get(long)?.last().map(String::as_str)
    }

    pub(super) fn all(&self, long: &str) -> &[String] {
        self.values.get(long).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has(&self, long: &str) -> bool {
        self.get(long).is_some_and(|value| value != "false")
    }
}

/// Takes options off the front of `args`. One dash or two mean the same, as in runc.
pub(super) fn parse(args: &[String], flags: &[Flag]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            break;
        }
        let Some(option) = word
            .strip_prefix("--")
            .or_else(|| word.strip_prefix('-'))
            .filter(|name| !name.is_empty())
        else {
            parsed.words.push(word.clone());
            break;
        };
        let (name, inline) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        let flag = flags.iter().find(|flag| flag.long == name || flag.short == Some(name));
        let flag = flag.ok_or_else(|| format!("unknown option {word}"))?;
        let value = match (flag.value, inline) {
            (_, Some(value)) => value,
            (false, None) => "true".to_owned(),
            (true, None) => rest
                .next()
                .ok_or_else(|| format!("option --{} needs a value", flag.long))?
                .clone(),
        };
        parsed.values.entry(flag.long).or_default().push(value);
    }
    parsed.words.extend(rest.cloned());
    Ok(parsed)
}

pub(super) fn text(args: Vec<OsString>) -> Result<Vec<String>, String> {
    args.into_iter()
        .map(|arg| {
            arg.into_string()
                .map_err(|arg| format!("argument {} is not UTF-8", arg.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        value("bundle", Some("b")),
        switch("detach", Some("d")),
        value("env", Some("e")),
    ];

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn options_end_at_the_first_word() {
        let parsed = parse(&words("-b /x --detach -e A=1 --env=B=2 id ls -l"), FLAGS).expect("valid");
        assert_eq!(parsed.get("bundle"), Some("/x"));
        assert!(parsed.has("detach"));
        assert_eq!(parsed.all("env"), ["A=1", "B=2"]);
        assert_eq!(parsed.words, ["id", "ls", "-l"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            parse(&words("--nope"), FLAGS).expect_err("unknown"),
            "unknown option --nope"
        );
        assert_eq!(
            parse(&words("-b"), FLAGS).expect_err("no value"),
            "option --bundle needs a value"
        );
    }

    #[test]
    fn a_switch_can_be_turned_off() {
        assert!(!parse(&words("--detach=false id"), FLAGS).expect("valid").has("detach"));
    }
}
