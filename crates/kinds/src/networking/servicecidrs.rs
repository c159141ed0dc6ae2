//! ServiceCIDR: blocks out of which services get their addresses.

use crate::addresses::{Cidr, strict_cidr};
use crate::checks::{IMMUTABLE, reset_metadata_for_status};
use crate::{Kind, STATUS, Subresource, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) struct ServiceCidrs;

impl Kind for ServiceCidrs {
    type Object = ServiceCIDR;
    const NAMESPACED: bool = false;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn prepare_create(&self, object: &mut ServiceCIDR) {
        object.status = Some(ServiceCIDRStatus::default());
    }

    fn prepare_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.spec.clone_from(&old.spec);
        reset_metadata_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(&self, object: &ServiceCIDR, errors: &mut Errors) {
        let cidrs = cidrs(object);
        let path = Path::new("spec");
        let path = path.child("cidrs");
        if cidrs.is_empty() {
            return errors.required(&path, "at least one CIDR required");
        }
        if cidrs.len() > 2 {
            return errors.invalid(&path, json!({ "CIDRs": cidrs }), "may only hold up to 2 values");
        }
        for (index, cidr) in cidrs.iter().enumerate() {
            errors.invalid_each(&path.index(index), cidr, strict_cidr(cidr));
        }
        let families: Vec<bool> = cidrs
            .iter()
            .filter_map(|cidr| Cidr::parse(cidr))
            .map(|cidr| cidr.address.is_ipv4())
            .collect();
        if matches!(families[..], [first, second] if first == second) {
            let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            errors.invalid(&path, cidrs, detail);
        }
    }

    /// A block stays; a second one may join it.
    fn validate_update(&self, new: &ServiceCIDR, old: &ServiceCIDR, errors: &mut Errors) {
        let (new, old) = (cidrs(new), cidrs(old));
        let path = Path::new("spec");
        let path = path.child("cidrs");
        let kept = new.len() == old.len() || (old.len() == 1 && new.len() == 2);
        if !kept {
            return errors.invalid(&path, new, IMMUTABLE);
        }
        for (index, (new, old)) in new.iter().zip(&old).enumerate() {
            if new != old {
                errors.invalid(&path.index(index), new.as_str(), IMMUTABLE);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("CIDRs", "The blocks, at most one of each address family."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &ServiceCIDR, now: Timestamp) -> Vec<Value> {
        vec![
            name(&object.metadata),
            cidrs(object).join(",").into(),
            age(&object.metadata, now),
        ]
    }
}

fn cidrs(object: &ServiceCIDR) -> Vec<String> {
    let spec = object.spec.as_ref();
    spec.and_then(|spec| spec.cidrs.clone()).unwrap_or_default()
}
