//! ServiceAccount: who a pod is when it talks to the API.

use crate::{Kind, Subresource, age, name};
use catamaran_api::table::Column;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ServiceAccounts;

impl Kind for ServiceAccounts {
    type Object = ServiceAccount;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["sa"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource {
        name: "token",
        kind: "TokenRequest",
        api_version: "authentication.k8s.io/v1",
        verbs: &["create"],
    }];

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Secrets", "Number of secrets the account lists."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &ServiceAccount, now: Timestamp) -> Vec<Value> {
        let secrets = object.secrets.as_ref().map_or(0, Vec::len);
        vec![name(&object.metadata), secrets.into(), age(&object.metadata, now)]
    }
}
