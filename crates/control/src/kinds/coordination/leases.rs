//! Lease: a heartbeat, or a lock with a time limit.

use crate::kinds::Kind;
use k8s_openapi::api::coordination::v1::Lease;

pub(in crate::kinds) struct Leases;

impl Kind for Leases {
    type Object = Lease;
    const NAMESPACED: bool = true;
}
