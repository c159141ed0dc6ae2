//! ServiceCIDRs that services still have addresses of stay until others cover those: a finalizer holds them, and comes off here.
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/#service-ip-address-ranges>

use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{is_conflict, is_not_found};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const MANAGER: &str = "service-cidrs-controller";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// On IPAddresses that belong to services.
const OURS: &str = "ipaddress.kubernetes.io/managed-by=ipallocator.k8s.io";
/// So long after a deletion began, no API server gives addresses of the block any more.
const SETTLED: Duration = Duration::from_secs(10);
const WORKERS: usize = 4;
const IN_USE: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

pub(crate) async fn run(client: Client, shutdown: CancellationToken) {
    let cidrs = watcher(Api::<ServiceCIDR>::all(client.clone()), watcher::Config::default());
    let of_services = watcher::Config::default().labels(OURS);
    let addresses = watcher(Api::<PartialObjectMeta<IPAddress>>::all(client.clone()), of_services);
    // One key for all: there are few, and what one may do depends on the others.
    let sources = vec![
        source("service CIDRs", cidrs, |change| match change {
            Change::Is(_) | Change::Was(_) => vec![()],
        }),
        source("addresses", addresses, |change| match change {
            Change::Was(_) => vec![()],
            Change::Is(_) => Vec::new(),
        }),
    ];
    drive("service-cidrs", sources, WORKERS, shutdown, |()| all(client.clone())).await;
}

async fn all(client: Client) -> kube::Result<Next> {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    let list = api.list(&ListParams::default()).await?.items;
    let mut after = None;
    let mut failure = None;
    for own in &list {
        match one(&client, &api, own, &list).await {
            Ok(Next::After(pause)) => after = Some(after.map_or(pause, |other: Duration| other.min(pause))),
            Ok(Next::Done | Next::Again) => {}
            // The watch shows what it is now.
            Err(error) if is_not_found(&error) || is_conflict(&error) => {}
            // The others are not to wait for it.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    Ok(after.map_or(Next::Done, Next::After))
}

async fn one(client: &Client, api: &Api<ServiceCIDR>, own: &ServiceCIDR, list: &[ServiceCIDR]) -> kube::Result<Next> {
    let holds = own.metadata.finalizers.iter().flatten().any(|other| other == FINALIZER);
    let Some(began) = &own.metadata.deletion_timestamp else {
        if !holds {
            // The watch shows what it is then.
            return write_finalizers(api, &own.metadata, true).await.map(|()| Next::Done);
        }
        let ready = "Kubernetes Service CIDR is ready";
        return say(api, own, "True", "", ready).await.map(|()| Next::Done);
    };
    if !holds {
        return Ok(Next::Done);
    }
    if !is_covered(own, list) {
        let addresses: Api<PartialObjectMeta<IPAddress>> = Api::all(client.clone());
        let used = addresses
            .list_metadata(&ListParams::default().labels(OURS))
            .await?
            .items;
        let used = used.iter().filter_map(|address| address.name_any().parse().ok());
        if used.into_iter().any(|address| depends_on(address, own, list)) {
            return say(api, own, "False", "Terminating", IN_USE).await.map(|()| Next::Done);
        }
    }
    let since = Timestamp::now().duration_since(began.0);
    let since = Duration::try_from(since).unwrap_or_default();
    if since < SETTLED {
        return Ok(Next::After(SETTLED.saturating_sub(since)));
    }
    write_finalizers(api, &own.metadata, false).await.map(|()| Next::Done)
}

/// Says whether addresses are given of it, if that is not what it says.
async fn say(api: &Api<ServiceCIDR>, own: &ServiceCIDR, status: &str, reason: &str, why: &str) -> kube::Result<()> {
    let conditions = own.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let present = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let says = |condition: &&Condition| {
        (
            condition.status.as_str(),
            condition.reason.as_str(),
            condition.message.as_str(),
        ) == (status, reason, why)
    };
    if present.filter(says).is_some() {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {
            "name": own.name_any(), "uid": own.metadata.uid, "resourceVersion": own.metadata.resource_version,
        },
        "status": {"conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": why,
            "lastTransitionTime": Time(Timestamp::now()),
        }]},
    });
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch_status(&own.name_any(), &parameters, &Patch::Apply(&patch))
        .await?;
    Ok(())
}

/// Puts the finalizer on or takes it off, if the object is still the one that was read.
async fn write_finalizers(api: &Api<ServiceCIDR>, read: &ObjectMeta, hold: bool) -> kube::Result<()> {
    let mut finalizers = read.finalizers.clone().unwrap_or_default();
    finalizers.retain(|own| own != FINALIZER);
    if hold {
        finalizers.push(FINALIZER.to_owned());
    }
    let patch = json!({"metadata": {"resourceVersion": read.resource_version, "finalizers": finalizers}});
    let name = read.name.clone().unwrap_or_default();
    api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// A block, as text says it.
#[derive(Clone, Copy)]
struct Block {
    network: u128,
    bits: u32,
    is_ipv4: bool,
}

impl Block {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok().filter(|bits| *bits <= width(address))?;
        Some(Block {
            network: prefix(address, bits),
            bits,
            is_ipv4: address.is_ipv4(),
        })
    }

    /// Is the other one a part of it, or the same?
    fn covers(&self, other: &Block) -> bool {
        let shift = other.bits.checked_sub(self.bits);
        self.is_ipv4 == other.is_ipv4
            && shift.is_some_and(|shift| other.network.checked_shr(shift).unwrap_or(0) == self.network)
    }

    /// Could it have given this address? Not that of the network itself, nor the broadcast address of IPv4.
    fn gives(&self, address: IpAddr) -> bool {
        let host_bits = width(address) - self.bits.min(width(address));
        let number = prefix(address, width(address));
        let host = number & low(host_bits);
        let is_edge = host == 0 || (self.is_ipv4 && host == low(host_bits));
        self.is_ipv4 == address.is_ipv4() && prefix(address, self.bits) == self.network && !is_edge
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first bits of an address, as a number.
fn prefix(address: IpAddr, bits: u32) -> u128 {
    let number = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    number.checked_shr(width(address) - bits).unwrap_or(0)
}

fn low(bits: u32) -> u128 {
    1_u128.checked_shl(bits).map_or(u128::MAX, |all| all - 1)
}

fn blocks(own: &ServiceCIDR) -> impl Iterator<Item = Block> {
    let cidrs = own.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|text| Block::parse(text))
}

/// The blocks that are there without it. Those that are on their way out as well cover nothing.
fn others<'a>(own: &'a ServiceCIDR, list: &'a [ServiceCIDR]) -> impl Iterator<Item = Block> + 'a {
    let others = list.iter().filter(|other| other.metadata.name != own.metadata.name);
    let staying = others.filter(|other| other.metadata.deletion_timestamp.is_none());
    staying.flat_map(blocks)
}

/// Pure: do other objects cover all of its blocks?
fn is_covered(own: &ServiceCIDR, list: &[ServiceCIDR]) -> bool {
    blocks(own).all(|block| others(own, list).any(|other| other.covers(&block)))
}

/// Pure: is this the only object whose blocks have the address?
fn depends_on(address: IpAddr, own: &ServiceCIDR, list: &[ServiceCIDR]) -> bool {
    blocks(own).any(|block| block.gives(address)) && !others(own, list).any(|other| other.gives(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::fake::Fake;
    use http::{Method, StatusCode};
    use serde_json::Value;

    const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

    fn cidr(name: &str, blocks: &[&str]) -> ServiceCIDR {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"cidrs": blocks}})).expect("an object")
    }

    #[test]
    fn a_block_is_needed_by_addresses_that_no_other_has() {
        let list = [
            cidr("kubernetes", &["10.96.0.0/16", "fd00::/112"]),
            cidr("part", &["10.96.1.0/24"]),
            cidr("other", &["192.168.0.0/24"]),
            cidr("wide", &["192.168.0.0/16"]),
        ];
        let covered: Vec<bool> = list.iter().map(|own| is_covered(own, &list)).collect();
        assert_eq!(covered, [false, true, true, false]);
        let needs = |ip: &str, name: &str| {
            let own = list.iter().find(|own| own.name_any() == name).expect("one of them");
            depends_on(ip.parse().expect("an address"), own, &list)
        };
        assert!(needs("10.96.0.1", "kubernetes") && needs("fd00::7", "kubernetes") && needs("192.168.9.9", "wide"));
        assert!(!needs("10.96.1.1", "kubernetes") && !needs("10.96.0.0", "kubernetes"));
        // Neither gives its own first and last address.
        assert!(needs("10.96.1.0", "kubernetes") && needs("10.96.1.255", "kubernetes"));
        assert!(!needs("10.97.0.1", "kubernetes") && !needs("0.0.0.7", "kubernetes"));
    }

    #[test]
    fn what_goes_as_well_covers_nothing() {
        let mut list = [cidr("one", &["10.96.0.0/24"]), cidr("other", &["10.96.0.0/16"])];
        let address = "10.96.0.7".parse().expect("an address");
        assert!(is_covered(&list[0], &list) && !depends_on(address, &list[0], &list));
        for own in &mut list {
            own.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        }
        assert!(!is_covered(&list[0], &list) && depends_on(address, &list[0], &list));
    }

    fn put(fake: &Fake, name: &str) {
        let metadata = json!({ "name": name, "finalizers": [FINALIZER] });
        fake.put(
            CIDRS,
            json!({ "metadata": metadata, "spec": { "cidrs": ["10.96.0.0/24"] } }),
        );
    }

    fn ready(fake: &Fake, name: &str) -> Value {
        let object = fake.get(CIDRS, "", name).expect("an object");
        object["status"]["conditions"][0]["status"].clone()
    }

    #[tokio::test]
    async fn one_that_fails_keeps_nobody_waiting() {
        let fake = Fake::default();
        ["a", "b"].into_iter().for_each(|name| put(&fake, name));
        let client = fake.client_after(|_, parts| {
            let fails = parts.method == Method::PATCH && parts.uri.path().contains("/a/");
            fails.then_some(StatusCode::INTERNAL_SERVER_ERROR)
        });
        all(client).await.expect_err("not all of them");
        assert_eq!(ready(&fake, "b"), "True");
    }

    #[tokio::test]
    async fn nothing_is_said_of_one_that_changed_meanwhile() {
        let fake = Fake::default();
        put(&fake, "a");
        let client = fake.client_after(|fake, parts| {
            if parts.method == Method::PATCH {
                put(fake, "a");
            }
            None
        });
        all(client).await.expect("the watch shows what it is now");
        assert_eq!(ready(&fake, "a"), Value::Null);
    }
}
