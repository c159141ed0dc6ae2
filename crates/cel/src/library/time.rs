//! Timestamps and durations.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::{Answer, Function, text};
use crate::{EvalError, Value};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "getFullYear" => |args, _| part(args, |time| i64::from(time.year())),
        "getMonth" => |args, _| part(args, |time| i64::from(time.month()) - 1),
        "getDayOfYear" => |args, _| part(args, |time| i64::from(time.day_of_year()) - 1),
        "getDayOfMonth" => |args, _| part(args, |time| i64::from(time.day()) - 1),
        "getDate" => |args, _| part(args, |time| i64::from(time.day())),
        "getDayOfWeek" => |args, _| part(args, |time| i64::from(time.weekday().since(Weekday::Sunday))),
        "getHours" => |args, _| clock(args, |d| d.as_secs() / 3600, |time| i64::from(time.hour())),
        "getMinutes" => |args, _| clock(args, |d| d.as_secs() / 60, |time| i64::from(time.minute())),
        "getSeconds" => |args, _| clock(args, SignedDuration::as_secs, |time| i64::from(time.second())),
        "getMilliseconds" => |args, _| {
            clock(
                args,
                |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX),
                |time| i64::from(time.millisecond()),
            )
        },
        _ => return None,
    })
}

fn part<'a>(args: &[Value<'a>], get: fn(&Zoned) -> i64) -> Answer<'a> {
    let Value::Timestamp(timestamp) = &args[0] else {
        return Err(EvalError::NoSuchOverload);
    };
    let zone = if args.len() > 1 {
        zone(text(args, 1)?)?
    } else {
        TimeZone::UTC
    };
    Ok(Value::Int(get(&timestamp.to_zoned(zone))))
}

fn clock<'a>(args: &[Value<'a>], of_duration: fn(&SignedDuration) -> i64, of_time: fn(&Zoned) -> i64) -> Answer<'a> {
    match &args[0] {
        Value::Duration(duration) => Ok(Value::Int(of_duration(duration))),
        _ => part(args, of_time),
    }
}

/// A zone by name, `Europe/Berlin`, or offset, `-02:30`.
fn zone(name: &str) -> Result<TimeZone, EvalError> {
    let unknown = || EvalError::new(format!("unknown time zone {name}"));
    let Some((hours, minutes)) = name.split_once(':') else {
        return match name {
            "" | "UTC" => Ok(TimeZone::UTC),
            name => TimeZone::get(name).map_err(|_| unknown()),
        };
    };
    let hours: i32 = hours.parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    let sign = if name.starts_with('-') { -1 } else { 1 };
    let seconds = hours * 3600 + sign * minutes * 60;
    let offset = jiff::tz::Offset::from_seconds(seconds).map_err(|_| unknown())?;
    Ok(TimeZone::fixed(offset))
}

/// RFC 3339.
pub(crate) fn parse_timestamp(text: &str) -> Result<Timestamp, EvalError> {
    let looks_right = text.len() >= 20 && text.as_bytes()[10].eq_ignore_ascii_case(&b'T');
    text.parse::<Timestamp>()
        .ok()
        .filter(|_| looks_right)
        .ok_or_else(|| EvalError::new(format!("invalid timestamp: {}", catamaran_api::field::quote(text))))
}

/// `2024-05-01`, as its first moment in UTC.
pub(crate) fn parse_date(text: &str) -> Result<Timestamp, EvalError> {
    let invalid = || EvalError::new(format!("invalid date: {}", catamaran_api::field::quote(text)));
    let date: Date = text.parse().map_err(|_| invalid())?;
    let midnight = date.to_zoned(TimeZone::UTC).map_err(|_| invalid())?;
    Ok(midnight.timestamp())
}

/// RFC 3339 with as many digits of the fraction as are needed.
pub(crate) fn show_timestamp(time: Timestamp) -> String {
    time.to_string()
}

/// Seconds with their fraction: `90s`, `0.5s`.
pub(crate) fn show_duration(duration: SignedDuration) -> String {
    let sign = if duration.is_negative() { "-" } else { "" };
    let nanos = duration.subsec_nanos().unsigned_abs();
    let seconds = duration.as_secs().unsigned_abs();
    if nanos == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{nanos:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// Go's notation: `1h30m`, `-1.5s`, `250ms`.
pub(crate) fn parse_duration(text: &str) -> Result<SignedDuration, EvalError> {
    let invalid = || EvalError::new(format!("time: invalid duration {}", catamaran_api::field::quote(text)));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanos_per_unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => {
                return Err(EvalError::new(format!(
                    "time: missing unit in duration {}",
                    catamaran_api::field::quote(text)
                )));
            }
            _ => {
                return Err(EvalError::new(format!(
                    "time: unknown unit {} in duration {}",
                    catamaran_api::field::quote(unit),
                    catamaran_api::field::quote(text)
                )));
            }
        };
        total = total.saturating_add(scaled(number, nanos_per_unit).ok_or_else(invalid)?);
        rest = after;
    }
    let total = if negative { -total } else { total };
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(SignedDuration::from_nanos(total))
}

/// A decimal number of units, in nanoseconds.
fn scaled(number: &str, nanos_per_unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(nanos_per_unit)?;
    let mut unit = nanos_per_unit;
    for digit in fraction.bytes() {
        unit /= 10;
        total += unit * i128::from(digit - b'0');
    }
    Some(total)
}
