//! What a scalar without quotes means.
//!
//! YAML 1.1 as Go's library understands it: `yes`, `on`, `y` are true; 0-prefixed numbers are octal, `0o`, `0x` and `0b` work, and
//! underscores in numbers are skipped; numbers of base 60 and timestamps stay strings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Above the range of [`Scalar::Integer`].
    Large(u64),
    Float(f64),
    Text(String),
}

/// Before the names of the types of YAML itself; `!!` is short for it.
pub(super) const CORE: &str = "tag:yaml.org,2002:";

impl Scalar {
    /// The meaning of a plain scalar without a tag.
    pub(super) fn plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                return Self::Boolean(true);
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
                return Self::Boolean(false);
            }
            ".nan" | ".NaN" | ".NAN" => return Self::Float(f64::NAN),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Self::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => return Self::Float(f64::NEG_INFINITY),
            _ => {}
        }
        let number = match text.as_bytes()[0] {
            b'.' => float(text),
            b'0'..=b'9' | b'+' | b'-' => number(&text.replace('_', "")),
            _ => None,
        };
        number.unwrap_or_else(|| Self::Text(text.to_owned()))
    }

    /// The meaning of a scalar with a tag, quoted or not.
    ///
    /// # Errors
    /// Text that is not of the type the tag names.
    pub(super) fn tagged(tag: &str, text: &str) -> Result<Self, String> {
        let plain = Self::plain(text);
        match (tag.strip_prefix(CORE).unwrap_or_default(), plain) {
            ("null", Self::Null) => Ok(Self::Null),
            ("bool", value @ Self::Boolean(_))
            | ("int", value @ (Self::Integer(_) | Self::Large(_)))
            | ("float", value @ (Self::Float(_) | Self::Large(_))) => Ok(value),
            #[allow(clippy::cast_precision_loss, reason = "so it is asked for")]
            ("float", Self::Integer(number)) => Ok(Self::Float(number as f64)),
            (name @ ("null" | "bool" | "int" | "float"), other) => {
                Err(format!("cannot decode {} `{text}` as a !!{name}", other.tag()))
            }
            ("binary", _) => match STANDARD.decode(text.replace(['\n', '\r'], "")) {
                Ok(bytes) => Ok(Self::Text(String::from_utf8_lossy(&bytes).into_owned())),
                Err(_) => Err("!!binary value contains invalid base64 data".to_owned()),
            },
            _ => Ok(Self::Text(text.to_owned())),
        }
    }

    fn tag(&self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Boolean(_) => "!!bool",
            Self::Integer(_) | Self::Large(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Text(_) => "!!str",
        }
    }

    /// As JSON. A float without a fraction is an integer there, as in the JSON that Go writes.
    ///
    /// # Errors
    /// A number that is not finite.
    pub(super) fn into_json(self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Bool(value),
            Self::Integer(number) => number.into(),
            Self::Large(number) => number.into(),
            #[allow(clippy::cast_possible_truncation, reason = "in range and without a fraction")]
            Self::Float(number) if number.fract() == 0.0 && number.abs() < 9.0e18 => Value::from(number as i64),
            Self::Float(number) => match Number::from_f64(number) {
                Some(number) => Value::Number(number),
                None => return Err("a number must be finite".to_owned()),
            },
            Self::Text(text) => Value::String(text),
        })
    }

    /// As the key of an object.
    ///
    /// # Errors
    /// Null, which is no key.
    pub(super) fn into_key(self) -> Result<String, String> {
        Ok(match self {
            Self::Null => return Err("a key must not be null".to_owned()),
            Self::Boolean(value) => value.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Large(number) => number.to_string(),
            Self::Float(number) => float_key(number),
            Self::Text(text) => text,
        })
    }
}

/// An integer or a float, after its underscores are gone.
fn number(text: &str) -> Option<Scalar> {
    integer(text).or_else(|| float(text))
}

fn integer(text: &str) -> Option<Scalar> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let signed = digits.len() != text.len();
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some(start) if start.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    // from_str_radix would take another sign.
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match (negative, i64::try_from(magnitude)) {
        (false, Ok(number)) => Some(Scalar::Integer(number)),
        (false, Err(_)) => (!signed).then_some(Scalar::Large(magnitude)),
        (true, _) => 0_i64.checked_sub_unsigned(magnitude).map(Scalar::Integer),
    }
}

/// Decimal digits, with a point or an exponent or both.
fn float(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) || !exponent_fits {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    // Too large to be a number: Go leaves it a string.
    number.is_finite().then_some(Scalar::Float(number))
}

/// A float as Go prints one for a key: the shortest single-precision digits, with an exponent from a million on.
fn float_key(number: f64) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    #[allow(clippy::cast_possible_truncation, reason = "that precision is the format")]
    let single = number as f32;
    if single.is_infinite() {
        return if single > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{single:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => single.to_string(),
    }
}
