//! What API servers behind this one need to believe it and its clients, where they look for it.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>

use super::{Authorities, is_conflict, named};
use crate::authn::front_proxy::{CLIENT, EXTRA, GROUP, USER};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client};
use std::collections::BTreeMap;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// Creates the ConfigMap, or makes it say what holds now.
pub(super) async fn ensure(client: &Client, authorities: Authorities<'_>) -> kube::Result<()> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let data = data(authorities);
    let wanted = ConfigMap {
        metadata: named(NAME),
        data: Some(data.clone()),
        ..ConfigMap::default()
    };
    match api.create(&PostParams::default(), &wanted).await {
        Err(error) if is_conflict(&error) => {}
        other => return other.map(drop),
    }
    let mut present = api.get(NAME).await?;
    if present.data.as_ref() == Some(&data) {
        return Ok(());
    }
    present.data = Some(data);
    api.replace(NAME, &PostParams::default(), &present).await.map(drop)
}

fn data(authorities: Authorities<'_>) -> BTreeMap<String, String> {
    let list = |text: &str| format!("[\"{text}\"]");
    let entries = [
        ("client-ca-file", authorities.clients.to_owned()),
        ("requestheader-allowed-names", list(CLIENT)),
        ("requestheader-client-ca-file", authorities.front_proxies.to_owned()),
        ("requestheader-extra-headers-prefix", list(&canonical(EXTRA))),
        ("requestheader-group-headers", list(&canonical(GROUP))),
        ("requestheader-username-headers", list(&canonical(USER))),
    ];
    entries.map(|(key, value)| (key.to_owned(), value)).into()
}

/// `x-remote-user` as Go writes it: `X-Remote-User`.
fn canonical(header: &str) -> String {
    let words = header.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect::<Vec<String>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_as_others_write_them() {
        let data = data(Authorities {
            clients: "a",
            front_proxies: "b",
        });
        assert_eq!(data["requestheader-extra-headers-prefix"], "[\"X-Remote-Extra-\"]");
        assert_eq!(data["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    }
}
