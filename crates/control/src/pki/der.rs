//! The little of DER that a certificate is made of (X.690, section 10).

use jiff::Timestamp;
use jiff::tz::TimeZone;

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match significant {
        [] => bytes.push(0),
        [short] if *short < 0x80 => bytes.push(*short),
        long => {
            bytes.push(0x80 | u8::try_from(long.len()).unwrap_or_default());
            bytes.extend_from_slice(long);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    value(0x30, &parts.concat())
}

/// `[number] EXPLICIT`
pub(super) fn context(number: u8, content: &[u8]) -> Vec<u8> {
    value(0xa0 | number, content)
}

/// `[number] IMPLICIT` of something that is not made of parts.
pub(super) fn implicit(number: u8, content: &[u8]) -> Vec<u8> {
    value(0x80 | number, content)
}

pub(super) fn boolean(is: bool) -> Vec<u8> {
    value(1, &[if is { 0xff } else { 0 }])
}

/// A number that is not negative, big-endian.
pub(super) fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let mut content = number[zeros.min(number.len().saturating_sub(1))..].to_vec();
    if content.first().is_some_and(|first| *first >= 0x80) {
        content.insert(0, 0);
    }
    value(2, &content)
}

pub(super) fn bit_string(unused: u8, bytes: &[u8]) -> Vec<u8> {
    value(3, &[&[unused], bytes].concat())
}

pub(super) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    value(4, bytes)
}

pub(super) fn oid(arcs: &[u64]) -> Vec<u8> {
    let (first, rest) = match arcs {
        [first, second, rest @ ..] => (first * 40 + second, rest),
        _ => (0, arcs),
    };
    let mut content = Vec::new();
    for arc in std::iter::once(&first).chain(rest) {
        let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let bits = u8::try_from(arc >> (7 * group) & 0x7f).unwrap_or_default();
            content.push(if group == 0 { bits } else { bits | 0x80 });
        }
    }
    value(6, &content)
}

/// With two digits for the year as long as there are enough (RFC 5280, section 4.1.2.5).
pub(super) fn time(at: Timestamp) -> Vec<u8> {
    let at = at.to_zoned(TimeZone::UTC);
    if at.year() < 2050 {
        value(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        value(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_standard_has_them() {
        assert_eq!(oid(&[1, 2, 840, 113_549]), [6, 6, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]);
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0]), [2, 1, 0]);
        assert_eq!(octet_string(&[7; 200])[..4], [4, 0x81, 200, 7]);
        assert_eq!(sequence(&[vec![0; 65_536]])[..5], [0x30, 0x83, 1, 0, 0]);
        let before: Timestamp = "2049-12-31T23:59:59Z".parse().unwrap();
        assert_eq!(time(before), [&[0x17, 13], b"491231235959Z".as_slice()].concat());
        let after: Timestamp = "2050-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(time(after), [&[0x18, 15], b"20500101000000Z".as_slice()].concat());
    }
}
