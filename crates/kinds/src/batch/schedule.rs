//! The five fields of cron, and the words that stand for them. What is wrong with a schedule is said as the library that
//! Kubernetes uses says it.

/// A field of a schedule: what it counts from and to, and names for its numbers.
struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
    /// The number of the first name.
    first: u32,
}

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field::numbers(0, 59),
    Field::numbers(0, 23),
    Field::numbers(1, 31),
    Field {
        names: MONTHS,
        first: 1,
        ..Field::numbers(1, 12)
    },
    Field {
        names: DAYS,
        ..Field::numbers(0, 6)
    },
];

impl Field {
    const fn numbers(min: u32, max: u32) -> Self {
        Field {
            min,
            max,
            names: &[],
            first: 0,
        }
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_lowercase();
        match self.names.iter().position(|name| *name == lower) {
            Some(index) => Ok(self.first + u32::try_from(index).unwrap_or(0)),
            None => number(text),
        }
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let parts: Vec<&str> = text.split('/').collect();
        let ends: Vec<&str> = parts[0].split('-').collect();
        let (start, mut end) = match ends[..] {
            ["*" | "?", ..] => (self.min, self.max),
            [one] => {
                let one = self.number(one)?;
                (one, one)
            }
            [start, end] => (self.number(start)?, self.number(end)?),
            _ => return Err(format!("too many hyphens: {text}")),
        };
        let step = match parts[..] {
            [_] => 1,
            [_, step] => {
                if ends.len() == 1 {
                    end = self.max;
                }
                number(step)?
            }
            _ => return Err(format!("too many slashes: {text}")),
        };
        let (min, max) = (self.min, self.max);
        if start < min {
            return Err(format!("beginning of range ({start}) below minimum ({min}): {text}"));
        }
        if end > max {
            return Err(format!("end of range ({end}) above maximum ({max}): {text}"));
        }
        if start > end {
            return Err(format!(
                "beginning of range ({start}) beyond end of range ({end}): {text}"
            ));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {text}"));
        }
        Ok(())
    }
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax",
            catamaran_api::field::quote(text)
        )),
    }
}

/// Is this a schedule? `known_zone` tells whether a time zone exists.
pub(super) fn check(schedule: &str, known_zone: impl Fn(&str) -> bool) -> Result<(), String> {
    if schedule.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let mut rest = schedule;
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        let (zone, after) = schedule.split_once(' ').unwrap_or((schedule, ""));
        let zone = zone.split_once('=').map_or("", |(_, zone)| zone);
        if !known_zone(zone) {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (field, text) in FIELDS.iter().zip(fields) {
        for part in text.split(',').filter(|part| !part.is_empty()) {
            field.check(part)?;
        }
    }
    Ok(())
}

fn descriptor(text: &str) -> Result<(), String> {
    match text {
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => Ok(()),
        _ => match text.strip_prefix("@every ") {
            Some(duration) if is_duration(duration) => Ok(()),
            Some(duration) => Err(format!(
                "failed to parse duration {text}: time: invalid duration {}",
                catamaran_api::field::quote(duration)
            )),
            None => Err(format!("unrecognized descriptor: {text}")),
        },
    }
}

/// `1h30m`, `1.5h`, `-10s`, as Go writes durations.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['+', '-']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        if digits.is_empty() || digits == "." || digits.matches('.').count() > 1 {
            return false;
        }
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if !matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong() {
        let zone = |zone: &str| zone == "Europe/Berlin";
        for good in [
            "* * * * *",
            "*/5 0-23/2 1,15 jan-MAR sun",
            "5/15 * ? * *",
            "@daily",
            "@every 1h30m",
            "TZ=Europe/Berlin 0 0 * * *",
        ] {
            assert_eq!(check(good, zone), Ok(()), "{good}");
        }
        let errors = [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* 5-1 * * *",
            "*/0 * * * *",
            "1-2-3 * * * *",
            "1/2/3 * * * *",
            "a * * * *",
            "-1 * * * *",
            "@often",
            "@every x",
            "TZ=Moon/Base * * * * *",
        ]
        .map(|bad| check(bad, zone).expect_err(bad));
        expect_test::expect![[r#"
            empty spec string
            expected exactly 5 fields, found 4: [* * * *]
            end of range (60) above maximum (59): 60
            beginning of range (0) below minimum (1): 0
            beginning of range (5) beyond end of range (1): 5-1
            step of range should be a positive number: */0
            too many hyphens: 1-2-3
            too many slashes: 1/2/3
            failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax
            failed to parse int from : strconv.Atoi: parsing "": invalid syntax
            unrecognized descriptor: @often
            failed to parse duration @every x: time: invalid duration "x"
            provided bad location Moon/Base: unknown time zone Moon/Base"#]]
        .assert_eq(&errors.join("\n"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = check(&text, |_| true);
        }

        #[test]
        fn no_fields_panic(text in "[-*/,0-9a-f ]{0,30}") {
            let _ = check(&text, |_| true);
        }
    }
}
