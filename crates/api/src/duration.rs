//! Durations as Go writes them (`1h30m`, `250ms`, `-1.5s`), which is how Kubernetes' query parameters and configuration have
//! them. <https://pkg.go.dev/time#ParseDuration>

use std::time::Duration;

/// `None` for negative ones.
///
/// # Errors
/// What Go says, without the `time: ` in front of it.
pub fn parse(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds: f64 = 0.0;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..number_end].parse().map_err(|_| invalid())?;
        rest = &rest[number_end..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = &rest[..unit_end];
        rest = &rest[unit_end..];
        nanoseconds += number
            * match unit {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "" => return Err(format!("missing unit in duration {text:?}")),
                unit => return Err(format!("unknown unit {unit:?} in duration {text:?}")),
            };
    }
    if nanoseconds >= 9_223_372_036_854_775_807.0 {
        return Err(invalid());
    }
    Ok((!negative).then(|| Duration::from_secs_f64(nanoseconds / 1e9)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let secs = Duration::from_secs;
        for (text, expected) in [
            ("5s", Ok(Some(secs(5)))),
            ("1h30m", Ok(Some(secs(5400)))),
            ("1.5s", Ok(Some(Duration::from_millis(1500)))),
            ("0", Ok(Some(secs(0)))),
            ("+2m", Ok(Some(secs(120)))),
            ("-1s", Ok(None)),
            ("300000h", Ok(Some(secs(300_000 * 3600)))),
            ("", Err("invalid duration \"\"")),
            ("soon", Err("invalid duration \"soon\"")),
            ("5", Err("missing unit in duration \"5\"")),
            ("5d", Err("unknown unit \"d\" in duration \"5d\"")),
            (".s", Err("invalid duration \".s\"")),
            ("9999999999h", Err("invalid duration \"9999999999h\"")),
        ] {
            assert_eq!(parse(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}
