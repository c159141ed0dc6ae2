//! Which devices a container may use: the rules of the spec, and the devices that every container has.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources};

/// Character devices everybody may use; `None` is any minor number. The null device and its kin, terminals, and ptys.
const EVERYBODY: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// The resources with complete device rules, in the order in which they take effect. Everything is denied first unless
/// the spec begins otherwise; a spec that ends up allowing everything (a privileged container) is left alone.
pub(super) fn complete(resources: &LinuxResources, devices: &[LinuxDevice]) -> LinuxResources {
    let mut resources = resources.clone();
    let asked = resources.devices().clone().unwrap_or_default();
    let is_everything = |rule: &LinuxDeviceCgroup| {
        matches!(rule.typ(), None | Some(LinuxDeviceType::A)) && rule.major().is_none() && rule.minor().is_none()
    };
    let last_general = asked.iter().rev().find(|rule| is_everything(rule));
    if last_general.is_some_and(LinuxDeviceCgroup::allow) {
        return resources;
    }
    let mut rules = Vec::with_capacity(asked.len() + EVERYBODY.len() + 3);
    if last_general.is_none() {
        rules.push(rule(false, LinuxDeviceType::A, None, None, "rwm"));
    }
    rules.extend(asked);
    // Making a node is harmless: using it is what the other rules decide.
    rules.push(rule(true, LinuxDeviceType::C, None, None, "m"));
    rules.push(rule(true, LinuxDeviceType::B, None, None, "m"));
    let everybody = EVERYBODY
        .iter()
        .map(|(major, minor)| rule(true, LinuxDeviceType::C, Some(*major), *minor, "rwm"));
    rules.extend(everybody);
    let listed = devices
        .iter()
        .filter(|device| matches!(device.typ(), LinuxDeviceType::B | LinuxDeviceType::C));
    let unruled: Vec<_> = listed
        .filter(|device| !rules.iter().any(|rule| names(rule, device)))
        .map(|device| rule(true, device.typ(), Some(device.major()), Some(device.minor()), "rwm"))
        .collect();
    rules.extend(unruled);
    resources.set_devices(Some(rules));
    resources
}

/// Whether the spec itself decides about this device.
fn names(rule: &LinuxDeviceCgroup, device: &LinuxDevice) -> bool {
    rule.typ() == Some(device.typ()) && rule.major() == Some(device.major()) && rule.minor() == Some(device.minor())
}

fn rule(allow: bool, kind: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    let mut builder = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .typ(kind)
        .access(access);
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    builder.build().expect("every field has a default")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(json: &str) -> Vec<LinuxDeviceCgroup> {
        let resources: LinuxResources = serde_json::from_str(json).expect("resources");
        complete(&resources, &[]).devices().clone().unwrap_or_default()
    }

    #[test]
    fn everything_is_denied_first() {
        let rules = completed("{}");
        assert!(!rules[0].allow() && rules[0].typ() == Some(LinuxDeviceType::A));
        assert!(rules[1..].iter().all(LinuxDeviceCgroup::allow));
    }

    #[test]
    fn a_denial_of_the_spec_is_not_repeated() {
        let rules = completed(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
        assert_eq!(rules.iter().filter(|rule| !rule.allow()).count(), 1);
    }

    #[test]
    fn privileged_stays_privileged() {
        assert_eq!(
            completed(r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]}"#).len(),
            2
        );
    }
}
