//! An operator in Rust: a kind of its own, and a controller that makes the world fit it.
//!
//! A `Buoy` asks for a light; the controller keeps a ConfigMap with its colour, says in the status what it did, and cleans up
//! through a finalizer. Run it against any cluster: `cargo run --example operator -- <namespace>`, then
//! `kubectl apply -f examples/operator/buoy.yaml`.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, CustomResource, CustomResourceExt as _, Resource as _, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Who the fields belong to that this controller writes.
const MANAGER: &str = "buoys.example.dev";

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "example.dev",
    version = "v1",
    kind = "Buoy",
    namespaced,
    status = "BuoyStatus",
    shortname = "by"
)]
#[kube(printcolumn = r#"{"name": "Colour", "type": "string", "jsonPath": ".spec.colour"}"#)]
#[kube(printcolumn = r#"{"name": "Lit", "type": "boolean", "jsonPath": ".status.lit"}"#)]
struct BuoySpec {
    /// The colour of the light.
    colour: Colour,
    /// Seconds between two flashes.
    #[schemars(range(min = 1, max = 60))]
    #[serde(default = "every_five_seconds")]
    period: u32,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Colour {
    Red,
    Green,
    White,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct BuoyStatus {
    lit: bool,
    #[serde(rename = "observedGeneration")]
    observed_generation: i64,
}

fn every_five_seconds() -> u32 {
    5
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the buoy's light cannot be kept")]
    Light(#[source] kube::Error),
    #[error("the buoy's status cannot be told")]
    Status(#[source] kube::Error),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let namespace = std::env::args().nth(1).unwrap_or_else(|| "default".to_owned());
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = Client::try_default().await?;
    define(&client).await?;
    println!("watching buoys in {namespace}");
    let buoys = Api::<Buoy>::namespaced(client.clone(), &namespace);
    let lights = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    Controller::new(buoys, kube::runtime::watcher::Config::default())
        .owns(lights, kube::runtime::watcher::Config::default())
        .shutdown_on_signal()
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_secs(2)),
            Arc::new(client),
        )
        .for_each(|result| async {
            match result {
                Ok((buoy, _)) => println!("reconciled {}", buoy.name),
                Err(error) => eprintln!("{error}"),
            }
        })
        .await;
    Ok(())
}

/// Brings the definition into the cluster and waits until it is served.
async fn define(client: &Client) -> anyhow::Result<()> {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let name = Buoy::crd_name();
    let apply = PatchParams::apply(MANAGER).force();
    definitions.patch(name, &apply, &Patch::Apply(Buoy::crd())).await?;
    let established = await_condition(definitions, name, conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(10), established).await??;
    Ok(())
}

async fn reconcile(buoy: Arc<Buoy>, client: Arc<Client>) -> Result<Action, finalizer::Error<Error>> {
    let namespace = buoy.namespace().unwrap_or_default();
    let buoys = Api::<Buoy>::namespaced(Client::clone(&client), &namespace);
    let lights = Api::<ConfigMap>::namespaced(Client::clone(&client), &namespace);
    finalizer(&buoys, "example.dev/light", buoy, |event| async {
        match event {
            Event::Apply(buoy) => light(&buoy, &buoys, &lights).await,
            Event::Cleanup(buoy) => match lights.delete(&light_name(&buoy), &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Action::await_change()),
                Err(error) => Err(Error::Light(error)),
                Ok(_) => Ok(Action::await_change()),
            },
        }
    })
    .await
}

/// Keeps the light of one buoy, and says so.
async fn light(buoy: &Buoy, buoys: &Api<Buoy>, lights: &Api<ConfigMap>) -> Result<Action, Error> {
    let light = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": light_name(buoy), "ownerReferences": [buoy.controller_owner_ref(&())]},
        "data": {"colour": buoy.spec.colour, "period": buoy.spec.period.to_string()},
    });
    let apply = PatchParams::apply(MANAGER).force();
    lights
        .patch(&light_name(buoy), &apply, &Patch::Apply(&light))
        .await
        .map_err(Error::Light)?;
    let status = json!({ "status": { "lit": true, "observedGeneration": buoy.metadata.generation } });
    buoys
        .patch_status(&buoy.name_any(), &PatchParams::default(), &Patch::Merge(&status))
        .await
        .map_err(Error::Status)?;
    Ok(Action::await_change())
}

fn light_name(buoy: &Buoy) -> String {
    format!("{}-light", buoy.name_any())
}
