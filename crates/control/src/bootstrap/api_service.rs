//! The service `kubernetes`: how pods find the API, by the first address of the network of services.
//!
//! Its endpoint is where the server listens. A server that listens on loopback only has none that a pod could reach; the
//! service is there all the same, since clients take its name and address for granted.

use crate::service_network::ServiceNetwork;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::PostParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;

const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
const PORT_NAME: &str = "https";

fn metadata(labels: &[(&str, &str)]) -> ObjectMeta {
    let labels: BTreeMap<String, String> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(labels),
        ..Default::default()
    }
}

fn service(port: u16, network: &ServiceNetwork) -> Service {
    let ip = network.first().to_string();
    Service {
        metadata: metadata(&[("component", "apiserver"), ("provider", "kubernetes")]),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some(ip.clone()),
            cluster_ips: Some(vec![ip]),
            session_affinity: Some("None".to_owned()),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port: 443,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(port.into())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        status: None,
    }
}

fn endpoints(address: SocketAddr) -> Endpoints {
    let reachable = !address.ip().is_loopback() && !address.ip().is_unspecified();
    let subset = EndpointSubset {
        addresses: Some(vec![EndpointAddress {
            ip: address.ip().to_string(),
            ..Default::default()
        }]),
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.to_owned()),
            port: address.port().into(),
            protocol: Some("TCP".to_owned()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    Endpoints {
        metadata: metadata(&[("endpointslice.kubernetes.io/skip-mirror", "true")]),
        subsets: reachable.then(|| vec![subset]),
    }
}

fn slice(address: SocketAddr) -> EndpointSlice {
    let reachable = !address.ip().is_loopback() && !address.ip().is_unspecified();
    let endpoint = Endpoint {
        addresses: vec![address.ip().to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    EndpointSlice {
        metadata: metadata(&[("kubernetes.io/service-name", NAME)]),
        address_type: if address.is_ipv6() { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: if reachable { vec![endpoint] } else { Vec::new() },
        ports: Some(vec![SlicePort {
            name: Some(PORT_NAME.to_owned()),
            port: Some(address.port().into()),
            protocol: Some("TCP".to_owned()),
            ..Default::default()
        }]),
    }
}

/// Creates what is missing, and makes it say where the server listens now.
pub(super) async fn ensure(client: &Client, address: SocketAddr, network: &ServiceNetwork) -> kube::Result<()> {
    futures::try_join!(
        ensure_one(client, service(address.port(), network), |present, wanted| {
            if let (Some(present), Some(wanted)) = (&mut present.spec, wanted.spec) {
                present.ports = wanted.ports;
            }
        }),
        ensure_one(client, endpoints(address), |present, wanted| {
            present.subsets = wanted.subsets;
        }),
        ensure_one(client, slice(address), |present, wanted| {
            present.endpoints = wanted.endpoints;
            present.ports = wanted.ports;
        }),
    )?;
    Ok(())
}

/// `renew` has a present object say what the wanted one says.
async fn ensure_one<K>(client: &Client, wanted: K, renew: impl FnOnce(&mut K, K)) -> kube::Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), NAMESPACE);
    // Looked at first: to create the service anew would be refused, as it has the address that it asks for.
    let Some(mut present) = api.get_opt(NAME).await? else {
        return api.create(&PostParams::default(), &wanted).await.map(drop);
    };
    renew(&mut present, wanted);
    api.replace(NAME, &PostParams::default(), &present).await.map(drop)
}
