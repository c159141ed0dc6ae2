//! IP addresses and CIDR blocks in fields. Old fields take what Go's sloppy parser took (leading zeros in IPv4), new ones
//! only the canonical form; about what is accepted but ambiguous there are warnings.

use catamaran_api::field::quote;
use catamaran_api::{Errors, Path};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NO_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Reads an address; zeros in front of an octet are ignored, and IPv4 within IPv6 is IPv4.
pub(crate) fn parse(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        let address: Ipv6Addr = text.parse().ok()?;
        return Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4));
    }
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 10 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse::<u64>().ok().and_then(|number| u8::try_from(number).ok())?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// A block of addresses: its address as written, and how many leading bits belong to the network.
#[derive(Clone, Copy)]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) bits: u32,
}

impl Cidr {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let mapped = address.contains(':') && parse(address)?.is_ipv4();
        if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let bits: u32 = bits.parse().ok()?;
        let address = parse(address)?;
        let bits = if mapped { bits.checked_sub(96)? } else { bits };
        (bits <= width(address)).then_some(Cidr { address, bits })
    }

    /// The first address of the block.
    pub(crate) fn network(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(address) & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
            }
        }
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let other = Cidr { address, ..self };
        address.is_ipv4() == self.address.is_ipv4() && other.network() == self.network()
    }

    fn canonical(self) -> String {
        format!("{}/{}", self.network(), self.bits)
    }
}

const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_mapped(text: &str) -> bool {
    text.parse::<Ipv6Addr>()
        .is_ok_and(|address| address.to_ipv4_mapped().is_some())
}

/// What is wrong with an address in a field that takes canonical ones only.
pub(crate) fn strict_ip(text: &str) -> Vec<String> {
    let Some(address) = parse(text) else {
        return vec![NO_IP.to_owned()];
    };
    if is_mapped(text) {
        return vec!["must not be an IPv4-mapped IPv6 address".to_owned()];
    }
    if text.parse::<IpAddr>().is_err() {
        return vec!["must not have leading 0s".to_owned()];
    }
    if address.to_string() == text {
        Vec::new()
    } else {
        vec![format!("must be in canonical form ({})", quote(&address.to_string()))]
    }
}

/// What is wrong with a block in a field that takes canonical ones only.
pub(crate) fn strict_cidr(text: &str) -> Vec<String> {
    let Some(cidr) = Cidr::parse(text) else {
        return vec![NO_CIDR.to_owned()];
    };
    let (address, bits) = text.split_once('/').unwrap_or((text, ""));
    let message = if is_mapped(address) {
        "must not have an IPv4-mapped IPv6 address".to_owned()
    } else if address.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0')) {
        "must not have leading 0s in IP or prefix length".to_owned()
    } else if cidr.network() != cidr.address {
        "must not have bits set beyond the prefix length".to_owned()
    } else if cidr.canonical() != text {
        format!("must be in canonical form ({})", quote(&cidr.canonical()))
    } else {
        return Vec::new();
    };
    vec![message]
}

/// What is wrong with an address that has the length of its network's prefix with it.
pub(crate) fn interface_address(text: &str) -> Vec<String> {
    let Some(cidr) = Cidr::parse(text) else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned()];
    };
    let canonical = format!("{}/{}", cidr.address, cidr.bits);
    if canonical == text {
        Vec::new()
    } else {
        vec![format!("must be in canonical form ({})", quote(&canonical))]
    }
}

/// Reads a block of an old field, or says that it is none.
pub(crate) fn legacy_cidr(text: &str, path: &Path<'_>, errors: &mut Errors) -> Option<Cidr> {
    let cidr = Cidr::parse(text);
    if cidr.is_none() {
        errors.invalid(path, text, NO_CIDR);
    }
    cidr
}

/// Reads an address of an old field, or says that it is none.
pub(crate) fn legacy_ip(text: &str, path: &Path<'_>, errors: &mut Errors) -> Option<IpAddr> {
    let address = parse(text);
    if address.is_none() {
        errors.invalid(path, text, NO_IP);
    }
    address
}

/// An address of an old field. What the object had already is let through.
pub(crate) fn validate(text: &str, kept: &[String], path: &Path<'_>, errors: &mut Errors) {
    if !kept.iter().any(|kept| kept == text) {
        legacy_ip(text, path, errors);
    }
}

/// A block of an old field, under the same rule.
pub(crate) fn validate_cidr(text: &str, kept: &[String], path: &Path<'_>, errors: &mut Errors) {
    if !kept.iter().any(|kept| kept == text) {
        legacy_cidr(text, path, errors);
    }
}

/// An address behind a service, or in front of it.
pub(crate) fn validate_endpoint(text: &str, path: &Path<'_>, errors: &mut Errors) {
    match parse(text) {
        None => errors.invalid(path, text, "must be a valid IP address"),
        Some(address) => reachable(text, address, path, errors),
    }
}

/// An address that traffic may be sent to from elsewhere.
pub(crate) fn reachable(text: &str, address: IpAddr, path: &Path<'_>, errors: &mut Errors) {
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if address.is_unspecified() {
        errors.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        let detail = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.invalid(path, text, detail);
    }
    if link_local_multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.invalid(path, text, detail);
    }
}

/// What to say about an address that is accepted although it is not in its standard form.
pub(crate) fn ip_warning(text: &str, path: &Path<'_>) -> Option<String> {
    let address = parse(text)?;
    let (shown, standard) = (quote(text), quote(&address.to_string()));
    if is_mapped(text) || text.parse::<IpAddr>().is_err() {
        return Some(format!(
            "{path}: non-standard IP address {shown} will be considered invalid in a future Kubernetes release: use {standard}"
        ));
    }
    (address.is_ipv6() && address.to_string() != text)
        .then(|| format!("{path}: IPv6 address {shown} should be in RFC 5952 canonical format ({standard})"))
}

/// What to say about a block that is accepted although it is ambiguous or not in its standard form.
pub(crate) fn cidr_warnings(text: &str, path: &Path<'_>) -> Vec<String> {
    let Some(cidr) = Cidr::parse(text) else {
        return Vec::new();
    };
    let (shown, standard) = (quote(text), quote(&cidr.canonical()));
    let mut warnings = Vec::new();
    if cidr.address != cidr.network() {
        let single = quote(&format!("{}/{}", cidr.address, width(cidr.address)));
        warnings.push(format!(
            "{path}: CIDR value {shown} is ambiguous in this context (should be {standard} or {single}?)"
        ));
    }
    let (address, bits) = text.split_once('/').unwrap_or((text, ""));
    if is_mapped(address) || address.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0')) {
        warnings.push(format!(
            "{path}: non-standard CIDR value {shown} will be considered invalid in a future Kubernetes release: use {standard}"
        ));
    }
    if warnings.is_empty() && cidr.address.is_ipv6() && cidr.canonical() != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {shown} should be in RFC 5952 canonical format ({standard})"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_addresses() {
        assert_eq!(parse("010.0.0.1"), Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(parse("::ffff:1.2.3.4"), Some(IpAddr::from([1, 2, 3, 4])));
        for bad in ["", "1.2.3", "1.2.3.4.5", "256.0.0.1", "a.b.c.d", "1:2"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(strict_ip("2001:db8::1"), Vec::<String>::new());
        assert_eq!(strict_ip("10.0.0.01"), ["must not have leading 0s"]);
        assert_eq!(
            strict_ip("2001:DB8::1"),
            [r#"must be in canonical form ("2001:db8::1")"#]
        );
        assert_eq!(strict_ip("::ffff:1.2.3.4"), ["must not be an IPv4-mapped IPv6 address"]);
    }

    #[test]
    fn forms_of_blocks() {
        let block = Cidr::parse("10.1.2.3/8").expect("a block");
        assert!(block.contains(IpAddr::from([10, 9, 9, 9])) && !block.contains(IpAddr::from([11, 0, 0, 0])));
        assert_eq!(strict_cidr("10.0.0.0/8"), Vec::<String>::new());
        assert_eq!(
            strict_cidr("10.1.0.0/8"),
            ["must not have bits set beyond the prefix length"]
        );
        assert_eq!(strict_cidr("10.0.0.0/33"), [NO_CIDR]);
        assert_eq!(strict_cidr("0.0.0.0/0"), Vec::<String>::new());
        assert_eq!(
            cidr_warnings("10.1.0.0/8", &Path::new("a")),
            [r#"a: CIDR value "10.1.0.0/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.1.0.0/32"?)"#]
        );
    }
}
