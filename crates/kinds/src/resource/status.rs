//! The status of a claim: its devices, who uses them, and what their drivers report.

use super::claim::{MAX_CONFIG, Requests};
use super::rules::{binding, driver, each, each_once, label, opaque, pool, raw};
use crate::addresses::interface_address;
use crate::checks::{conditions, immutable};
use catamaran_api::{Errors, Path};
use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceAllocationConfiguration, DeviceRequestAllocationResult,
    NetworkDeviceData, ResourceClaim, ResourceClaimConsumerReference, ResourceClaimStatus,
};
use serde_json::{Value, json};

const MAX_CONSUMERS: usize = 256;
const MAX_RESULTS: usize = 32;
const MAX_CONDITIONS: usize = 8;
const MAX_INTERFACE: usize = 256;
const MAX_HARDWARE_ADDRESS: usize = 128;
const MAX_IPS: usize = 16;

type DeviceId<'a> = (&'a str, &'a str, &'a str, Option<&'a str>);

pub(super) fn validate(new: &ResourceClaim, old: &ResourceClaim, errors: &mut Errors) {
    let (empty, path) = (ResourceClaimStatus::default(), Path::new("status"));
    let (status, before) = (
        new.status.as_ref().unwrap_or(&empty),
        old.status.as_ref().unwrap_or(&empty),
    );
    let consumers = status.reserved_for.as_deref().unwrap_or_default();
    let key = |consumer: &ResourceClaimConsumerReference| consumer.uid.clone();
    let at = path.child("reservedFor");
    each_once(consumers, MAX_CONSUMERS, &at, errors, key, validate_consumer);
    validate_devices(status, &path.child("devices"), errors);
    if !consumers.is_empty() {
        let known = before.reserved_for.as_deref().unwrap_or_default();
        if status.allocation.is_none() {
            errors.forbidden(&at, "may not be specified when `allocated` is not set");
        } else if new.metadata.deletion_timestamp.is_some() && consumers.iter().any(|one| !known.contains(one)) {
            let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&at, detail);
        }
    }
    let at = path.child("allocation");
    match (&status.allocation, &before.allocation) {
        (Some(new), Some(old)) => immutable(new, old, &at, errors),
        (Some(allocation), None) => {
            validate_allocation(allocation, &Requests::of(new.spec.devices.as_ref()), &at, errors);
        }
        (None, _) => {}
    }
}

fn validate_consumer(consumer: &ResourceClaimConsumerReference, path: &Path<'_>, errors: &mut Errors) {
    let parts = [
        ("resource", &consumer.resource),
        ("name", &consumer.name),
        ("uid", &consumer.uid),
    ];
    for (field, _) in parts.iter().filter(|(_, value)| value.is_empty()) {
        errors.required(&path.child(field), "");
    }
}

fn id(device: &AllocatedDeviceStatus) -> DeviceId<'_> {
    (&device.driver, &device.pool, &device.device, device.share_id.as_deref())
}

fn validate_devices(status: &ResourceClaimStatus, path: &Path<'_>, errors: &mut Errors) {
    let devices = status.devices.as_deref().unwrap_or_default();
    let results = status
        .allocation
        .iter()
        .flat_map(|allocation| allocation.devices.iter());
    let allocated: Vec<DeviceId<'_>> = results
        .flat_map(|devices| devices.results.iter().flatten())
        .map(|result| {
            let share = result.share_id.as_deref();
            (
                result.driver.as_str(),
                result.pool.as_str(),
                result.device.as_str(),
                share,
            )
        })
        .collect();
    for (index, device) in devices.iter().enumerate() {
        let at = path.index(index);
        driver(&device.driver, &at.child("driver"), errors);
        pool(&device.pool, &at.child("pool"), errors);
        label(&device.device, &at.child("device"), errors);
        if let Some(share) = &device.share_id {
            uid(share, &at.child("shareID"), errors);
        }
        if !allocated.contains(&id(device)) {
            errors.invalid(&at, shown_id(device), "must be an allocated device in the claim");
        }
        let reported = device.conditions.as_deref().unwrap_or_default();
        if reported.len() > MAX_CONDITIONS {
            errors.too_many(&at.child("conditions"), reported.len(), MAX_CONDITIONS);
        }
        conditions(reported, &at.child("conditions"), errors);
        if let Some(data) = &device.data {
            raw(&data.0, &at.child("data"), errors);
        }
        if let Some(data) = &device.network_data {
            validate_network(data, &at.child("networkData"), errors);
        }
    }
    for (index, device) in devices.iter().enumerate() {
        if devices[..index].iter().any(|other| id(other) == id(device)) {
            errors.duplicate(&path.index(index), shown_id(device));
        }
    }
}

fn shown_id(device: &AllocatedDeviceStatus) -> Value {
    json!({"Driver": device.driver, "Pool": device.pool, "Device": device.device, "ShareID": device.share_id.clone().unwrap_or_default()})
}

fn uid(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if groups != [8, 4, 4, 4, 12] || !hexadecimal {
        let detail = format!("error validating uid: invalid UUID length: {}", text.len());
        errors.invalid(path, text, detail);
    } else if text != text.to_lowercase() {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
                      hexadecimal characters";
        errors.invalid(path, text, detail);
    }
}

fn validate_network(data: &NetworkDeviceData, path: &Path<'_>, errors: &mut Errors) {
    let too_long = |text: &Option<String>, max: usize| text.as_ref().is_some_and(|text| text.len() > max);
    if too_long(&data.interface_name, MAX_INTERFACE) {
        errors.too_long(&path.child("interfaceName"), MAX_INTERFACE);
    }
    if too_long(&data.hardware_address, MAX_HARDWARE_ADDRESS) {
        errors.too_long(&path.child("hardwareAddress"), MAX_HARDWARE_ADDRESS);
    }
    let ips = data.ips.as_deref().unwrap_or_default();
    let key = |ip: &String| ip.clone();
    let check = |ip: &String, at: &Path<'_>, errors: &mut Errors| {
        errors.invalid_each(at, ip, interface_address(ip));
    };
    each_once(ips, MAX_IPS, &path.child("ips"), errors, key, check);
}

fn validate_allocation(allocation: &AllocationResult, names: &Requests<'_>, path: &Path<'_>, errors: &mut Errors) {
    let devices = allocation.devices.clone().unwrap_or_default();
    let path = path.child("devices");
    let results = devices.results.as_deref().unwrap_or_default();
    let check = |result: &DeviceRequestAllocationResult, at: &Path<'_>, errors: &mut Errors| {
        names.check(&result.request, &at.child("request"), errors);
        driver(&result.driver, &at.child("driver"), errors);
        pool(&result.pool, &at.child("pool"), errors);
        label(&result.device, &at.child("device"), errors);
        let (conditions, failures) = (&result.binding_conditions, &result.binding_failure_conditions);
        binding(conditions.as_deref(), failures.as_deref(), at, errors);
        if let Some(share) = &result.share_id {
            uid(share, &at.child("shareID"), errors);
        }
    };
    each(results, MAX_RESULTS, &path.child("results"), errors, check);
    let config = devices.config.as_deref().unwrap_or_default();
    let check = |config: &DeviceAllocationConfiguration, at: &Path<'_>, errors: &mut Errors| {
        match config.source.as_str() {
            "" => errors.required(&at.child("source"), ""),
            "FromClaim" | "FromClass" => {}
            other => errors.not_supported(&at.child("source"), other, &["FromClaim", "FromClass"]),
        }
        names.check_all(config.requests.as_deref(), &at.child("requests"), errors);
        opaque(config.opaque.as_ref(), at, errors);
    };
    each(config, 2 * MAX_CONFIG, &path.child("config"), errors, check);
}
