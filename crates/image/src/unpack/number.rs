//! The numbers of tar headers, which come in three spellings.

use super::tar::{TarError, damaged};

/// A header number: octal text, or base-256 when the first bit is set.
pub(super) fn number(field: &[u8], what: &str) -> Result<u64, TarError> {
    match u64::try_from(wide(field, what)?) {
        Ok(value) => Ok(value),
        Err(_) => damaged(format!("a {what} out of range")),
    }
}

pub(super) fn signed(field: &[u8]) -> Result<i64, TarError> {
    i64::try_from(wide(field, "time")?).map_or_else(|_| damaged("a time out of range"), Ok)
}

fn wide(field: &[u8], what: &str) -> Result<i128, TarError> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let start = if negative { -1i128 } else { 0 };
        let mut value = (start << 6) | i128::from(field[0] & 0x3f);
        for byte in &field[1..] {
            value = (value << 8) | i128::from(*byte);
        }
        return Ok(value);
    }
    let text = field.trim_ascii_start();
    let text = text.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    text.iter().try_fold(0i128, |value, byte| match byte {
        b'0'..=b'7' => Ok(value * 8 + i128::from(byte - b'0')),
        _ => damaged(format!("a malformed {what}")),
    })
}

pub(super) fn narrow(value: u64, what: &str) -> Result<u32, TarError> {
    u32::try_from(value).map_or_else(|_| damaged(format!("a {what} out of range")), Ok)
}

pub(super) fn decimal(text: &[u8]) -> Result<u64, TarError> {
    let parsed = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    parsed
        .and_then(|text| text.parse().ok())
        .map_or_else(|| damaged("a malformed decimal number"), Ok)
}

/// `[-]seconds[.fraction]`.
pub(super) fn timestamp(text: &[u8]) -> Result<(i64, u32), TarError> {
    let malformed = || TarError::Damaged("a malformed time".to_owned());
    let text = std::str::from_utf8(text).map_err(|_| malformed())?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let value: i64 = seconds.parse().map_err(|_| malformed())?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| malformed())?;
    if seconds.starts_with('-') && nanoseconds > 0 {
        return Ok((value.checked_sub(1).ok_or_else(malformed)?, 1_000_000_000 - nanoseconds));
    }
    Ok((value, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_all_their_spellings() {
        assert_eq!(number(b"0000644\0", "x").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0", "x").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0", "x").unwrap(), 0);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0], "x").unwrap(), 256);
        assert_eq!(signed(&[0xff; 12]).unwrap(), -1);
        assert!(number(&[0xff; 8], "x").is_err() && number(b"00000689", "x").is_err());
        assert_eq!(timestamp(b"1.5").unwrap(), (1, 500_000_000));
        assert_eq!(timestamp(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(timestamp(b"7").unwrap(), (7, 0));
    }
}
