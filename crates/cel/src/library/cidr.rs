//! IP addresses and ranges of them.

use std::fmt;
use std::net::IpAddr;

use super::{Answer, Function, text};
use crate::value::Opaque;
use crate::{Budget, EvalError, Value};

/// A range, with the address it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && mask(self.address, self.prefix) == mask(address, self.prefix)
    }
}

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "ip" => |args, _| match cidr_of(&args[0]) {
            Some(cidr) => Ok(Value::opaque(Opaque::Ip(cidr.address))),
            None => Ok(Value::opaque(Opaque::Ip(parse_ip(text(args, 0)?)?))),
        },
        "isIP" => |args, _| Ok(Value::Bool(parse_ip(text(args, 0)?).is_ok())),
        "ip.isCanonical" => |args, _| {
            let address = parse_ip(text(args, 0)?)?;
            Ok(Value::Bool(address.to_string() == text(args, 0)?))
        },
        "family" => |args, _| Ok(Value::Int(if ip_of(&args[0])?.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => |args, _| Ok(Value::Bool(ip_of(&args[0])?.is_unspecified())),
        "isLoopback" => |args, _| Ok(Value::Bool(ip_of(&args[0])?.is_loopback())),
        "isLinkLocalMulticast" => |args, _| Ok(Value::Bool(is_link_local_multicast(ip_of(&args[0])?))),
        "isLinkLocalUnicast" => |args, _| Ok(Value::Bool(is_link_local(ip_of(&args[0])?))),
        "isGlobalUnicast" => |args, _| Ok(Value::Bool(is_global(ip_of(&args[0])?))),
        "cidr" => |args, _| Ok(Value::opaque(Opaque::Cidr(parse_cidr(text(args, 0)?)?))),
        "isCIDR" => |args, _| Ok(Value::Bool(parse_cidr(text(args, 0)?).is_ok())),
        "containsIP" => contains_ip,
        "containsCIDR" => contains_cidr,
        "prefixLength" => |args, _| {
            let cidr = cidr_of(&args[0]).ok_or(EvalError::NoSuchOverload)?;
            Ok(Value::Int(i64::from(cidr.prefix)))
        },
        "masked" => |args, _| {
            let Cidr { address, prefix } = cidr_of(&args[0]).ok_or(EvalError::NoSuchOverload)?;
            let address = mask(address, prefix);
            Ok(Value::opaque(Opaque::Cidr(Cidr { address, prefix })))
        },
        _ => return None,
    })
}

fn ip_of(value: &Value<'_>) -> Result<IpAddr, EvalError> {
    match value {
        Value::Opaque(value) => match &**value {
            Opaque::Ip(address) => Ok(*address),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn cidr_of(value: &Value<'_>) -> Option<Cidr> {
    match value {
        Value::Opaque(value) => match &**value {
            Opaque::Cidr(cidr) => Some(*cidr),
            _ => None,
        },
        _ => None,
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    let quoted = || catamaran_api::field::quote(text);
    if text.contains('%') {
        return Err(EvalError::new(format!(
            "IP address {} with zone value is not allowed",
            quoted()
        )));
    }
    let address: IpAddr = text.parse().map_err(|_| {
        EvalError::new(format!(
            "IP Address {} parse error during conversion from string",
            quoted()
        ))
    })?;
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(EvalError::new(format!(
            "IPv4-mapped IPv6 address {} is not allowed",
            quoted()
        ))),
        address => Ok(address),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, EvalError> {
    let quoted = || catamaran_api::field::quote(text);
    let invalid = || {
        EvalError::new(format!(
            "network address parse error during conversion from string: {}",
            quoted()
        ))
    };
    let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    if let IpAddr::V6(v6) = address
        && v6.to_ipv4_mapped().is_some()
    {
        return Err(EvalError::new(format!(
            "IPv4-mapped IPv6 address {} is not allowed",
            quoted()
        )));
    }
    let plain = prefix == "0" || (!prefix.starts_with('0') && prefix.bytes().all(|b| b.is_ascii_digit()));
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix: u8 = prefix
        .parse()
        .ok()
        .filter(|prefix| plain && *prefix <= bits)
        .ok_or_else(invalid)?;
    Ok(Cidr { address, prefix })
}

/// The address with the bits behind the prefix cleared.
fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

fn contains_ip<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let cidr = cidr_of(&args[0]).ok_or(EvalError::NoSuchOverload)?;
    let address = match &args[1] {
        Value::String(text) => parse_ip(text)?,
        other => ip_of(other)?,
    };
    Ok(Value::Bool(cidr.contains(address)))
}

fn contains_cidr<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let cidr = cidr_of(&args[0]).ok_or(EvalError::NoSuchOverload)?;
    let other = match &args[1] {
        Value::String(text) => parse_cidr(text)?,
        other => cidr_of(other).ok_or(EvalError::NoSuchOverload)?,
    };
    Ok(Value::Bool(cidr.prefix <= other.prefix && cidr.contains(other.address)))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

/// Everything but unspecified, broadcast, loopback, multicast and link-local addresses.
fn is_global(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified()
        || broadcast
        || address.is_loopback()
        || address.is_multicast()
        || is_link_local(address))
}
