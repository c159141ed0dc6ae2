//! Amounts of resources: `500m` CPUs, `1Gi` of memory.
//!
//! Fixed point, never floating: a quantity is a whole number of billionths, so that `0.1` ten times is `1`. It remembers which
//! family of suffixes it was written with and prints in the canonical form of that family, which is what the API stores: the same
//! amount, no fraction, the largest suffix.
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

const NANOS_PER_UNIT: i128 = 1_000_000_000;
/// Nothing is larger: amounts beyond are cut to it, as in Kubernetes.
const MAX_NANOS: i128 = i64::MAX as i128 * NANOS_PER_UNIT;

/// The family of suffixes a quantity is printed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `m`, `k`, `M`, …: powers of 1000.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, …: powers of 1024.
    BinarySi,
    /// `e3`, `e6`, ….
    DecimalExponent,
}

/// An amount. Two quantities are equal if they are the same amount, however written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// A whole number, printed with decimal suffixes.
    pub const fn from_units(units: i64) -> Self {
        Self {
            nanos: units as i128 * NANOS_PER_UNIT,
            format: Format::DecimalSi,
        }
    }

    /// Thousandths, as CPUs are usually counted.
    pub const fn from_millis(millis: i64) -> Self {
        Self {
            nanos: millis as i128 * 1_000_000,
            format: Format::DecimalSi,
        }
    }

    /// Bytes, printed with binary suffixes.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self {
            nanos: bytes as i128 * NANOS_PER_UNIT,
            format: Format::BinarySi,
        }
    }

    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if number.is_empty()
            || !suffix
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"eEinumkKMGTP+-".contains(&byte))
        {
            return Err(ParseError::Format);
        }
        let (scale, format) = parse_suffix(suffix).ok_or(ParseError::Suffix)?;
        let nanos = scaled(number, scale)?;
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }

    /// Billionths: the exact value.
    pub const fn nanos(self) -> i128 {
        self.nanos
    }

    /// Whole units, rounded away from zero.
    pub fn units(self) -> i64 {
        self.scaled_up(NANOS_PER_UNIT)
    }

    /// Thousandths, rounded away from zero; the largest `i64` where there are more.
    pub fn millis(self) -> i64 {
        self.scaled_up(1_000_000)
    }

    fn scaled_up(self, nanos_per_step: i128) -> i64 {
        let steps = self.nanos.unsigned_abs().div_ceil(nanos_per_step.unsigned_abs());
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        if self.nanos < 0 { -steps } else { steps }
    }

    pub const fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Is it a number of whole units?
    pub const fn is_integer(self) -> bool {
        self.nanos % NANOS_PER_UNIT == 0
    }

    pub const fn format(self) -> Format {
        self.format
    }

    const fn capped(nanos: i128, format: Format) -> Self {
        let nanos = if nanos > MAX_NANOS {
            MAX_NANOS
        } else if nanos < -MAX_NANOS {
            -MAX_NANOS
        } else {
            nanos
        };
        Self { nanos, format }
    }
}

#[derive(Clone, Copy)]
enum Scale {
    Decimal(i32),
    /// Power of two.
    Binary(u32),
}

fn parse_suffix(suffix: &str) -> Option<(Scale, Format)> {
    let decimal = |power| Some((Scale::Decimal(power), Format::DecimalSi));
    let binary = |power| Some((Scale::Binary(power), Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            Some((Scale::Decimal(exponent), Format::DecimalExponent))
        }
    }
}

/// The value of unsigned decimal digits in nanos, rounded up, cut at the maximum.
fn scaled(number: &str, scale: Scale) -> Result<i128, ParseError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(ParseError::Numeric);
    }
    // The value is digits × 10^exponent nanos (× 2^power).
    let (exponent, power) = match scale {
        Scale::Decimal(exponent) => (exponent, 0),
        Scale::Binary(power) => (0, power),
    };
    let mut exponent = i64::from(exponent) + 9 - i64::try_from(fraction.len()).unwrap_or(i64::MAX / 2);
    let mut digits: u128 = 0;
    let mut inexact = false;
    for digit in whole
        .bytes()
        .chain(fraction.bytes())
        .map(|byte| u128::from(byte - b'0'))
    {
        // Digits beyond what fits only matter for rounding and for the exponent.
        if digits < (u128::MAX >> power) / 100 {
            digits = digits * 10 + digit;
        } else {
            exponent += 1;
            inexact |= digit != 0;
        }
    }
    if digits == 0 {
        return Ok(0);
    }
    let max = MAX_NANOS.unsigned_abs();
    let mut nanos = digits << power;
    while exponent > 0 && nanos <= max {
        nanos = nanos.saturating_mul(10);
        exponent -= 1;
    }
    if exponent < 0 {
        let divisor = u32::try_from(-exponent)
            .ok()
            .and_then(|exponent| 10_u128.checked_pow(exponent));
        (nanos, inexact) = match divisor {
            Some(divisor) => (nanos / divisor, inexact || !nanos.is_multiple_of(divisor)),
            None => (0, true),
        };
    }
    let nanos = nanos.saturating_add(u128::from(inexact)).min(max);
    Ok(i128::try_from(nanos).unwrap_or(MAX_NANOS))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.nanos / NANOS_PER_UNIT;
        let binary = self.format == Format::BinarySi && self.is_integer() && whole.abs() >= 1024;
        if self.nanos == 0 {
            f.write_str("0")
        } else if binary {
            let (mantissa, power) = factor_out(whole, 1024, 6);
            let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power];
            write!(f, "{mantissa}{suffix}")
        } else {
            let (mantissa, power) = factor_out(self.nanos, 1000, 9);
            if self.format == Format::DecimalExponent {
                match i32::try_from(power).unwrap_or(0) * 3 - 9 {
                    0 => write!(f, "{mantissa}"),
                    exponent => write!(f, "{mantissa}e{exponent}"),
                }
            } else {
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power];
                write!(f, "{mantissa}{suffix}")
            }
        }
    }
}

fn factor_out(mut value: i128, base: i128, most: usize) -> (i128, usize) {
    let mut power = 0;
    while power < most && value % base == 0 {
        value /= base;
        power += 1;
    }
    (value, power)
}

impl std::str::FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl TryFrom<&WireQuantity> for Quantity {
    type Error = ParseError;

    fn try_from(wire: &WireQuantity) -> Result<Self, ParseError> {
        Self::parse(&wire.0)
    }
}

impl From<Quantity> for WireQuantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl Add for Quantity {
    type Output = Self;

    /// A zero takes the other's format, so that a sum starting at [`Quantity::ZERO`] prints as its parts do.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self::capped(self.nanos + other.nanos, format)
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            nanos: -self.nanos,
            format: self.format,
        }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(quantities: I) -> Self {
        quantities.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests;
