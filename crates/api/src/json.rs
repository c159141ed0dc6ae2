//! JSON as Go writes it.
//!
//! Clients can see two differences: numbers with a fraction, of which Go writes a whole one without it (`3`, not `3.0`) and signs
//! exponents, and null for moments that are not set.

mod nulls;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};
use std::io;

/// Bytes of a value.
///
/// # Errors
/// If the value cannot be JSON.
pub fn to_vec(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = Vec::with_capacity(512);
    to_writer(&mut json, value)?;
    Ok(json)
}

/// Bytes of an object whose type is known, with null where Kubernetes writes it: see [`nulls`].
///
/// # Errors
/// If the value cannot be JSON.
pub fn typed_to_vec(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, GoNumbers);
    value.serialize(nulls::WithNulls(&mut serializer))?;
    Ok(json)
}

/// Writes a value.
///
/// # Errors
/// If the value cannot be JSON, or the writer fails.
pub fn to_writer(writer: impl io::Write, value: &(impl Serialize + ?Sized)) -> Result<(), serde_json::Error> {
    value.serialize(&mut serde_json::Serializer::with_formatter(writer, GoNumbers))
}

/// JSON text with `<`, `>` and `&` escaped, as Go does it for pages that quote JSON.
pub fn without_markup(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            c => escaped.push(c),
        }
    }
    escaped
}

struct GoNumbers;

impl Formatter for GoNumbers {
    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        CompactFormatter.write_f32(writer, value)
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size == 0.0 || (1e-6..1e21).contains(&size) {
            return write!(writer, "{value}");
        }
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => write!(writer, "{mantissa}e+{exponent}"),
            _ => writer.write_all(text.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let cases = [
            (3.0, "3"),
            (-0.5, "-0.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (0.0, "0"),
            (1e30, "1e+30"),
        ];
        for (value, expected) in cases {
            assert_eq!(to_vec(&value).unwrap(), expected.as_bytes());
        }
        let tree = serde_json::json!({"a": [1, 2.0, "x"], "b": null});
        assert_eq!(to_vec(&tree).unwrap(), br#"{"a":[1,2,"x"],"b":null}"#);
    }
}
