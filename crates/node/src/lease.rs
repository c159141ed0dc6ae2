//! The node's heartbeat: a Lease in `kube-node-lease`, renewed every ten seconds; and the Node's status when it changes.

use crate::registration::{self, Identity, Machine};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::NodeStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-node-lease";
const DURATION_SECS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// How often the Node's status is written although nothing changed.
const STATUS: Duration = Duration::from_secs(300);

/// What the heartbeat knows.
pub(crate) struct Heartbeat {
    pub client: Client,
    pub identity: Identity,
    pub machine: Machine,
    pub data_dir: PathBuf,
    pub status: NodeStatus,
}

impl Heartbeat {
    /// Beats until shutdown. A missed beat is logged and made up for by the next.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut published = Instant::now();
        let mut registered = true;
        loop {
            if let Err(error) = self.renew().await {
                tracing::warn!(error = crate::chain(&error), "the node's lease was not renewed");
            }
            let status = self.observe().await;
            if !registered || registration::differs(&status, &self.status) || published.elapsed() >= STATUS {
                match registration::publish(&self.client, &self.identity.name, &status).await {
                    Ok(()) => {
                        registered = true;
                        published = Instant::now();
                        self.status = status;
                    }
                    // Somebody deleted the Node: a node that runs is there.
                    Err(kube::Error::Api(answer)) if answer.code == 404 => {
                        registered = registration::register(&self.client, &self.identity, &status)
                            .await
                            .is_ok();
                    }
                    Err(error) => tracing::warn!(error = crate::chain(&error), "the node's status was not written"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RENEW) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn observe(&self) -> NodeStatus {
        let (identity, machine) = (self.identity.clone(), self.machine.clone());
        let (data_dir, before) = (self.data_dir.clone(), self.status.clone());
        let now = Timestamp::now();
        let work = move || registration::status(&identity, &machine, &data_dir, Some(&before), now);
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|_| self.status.clone())
    }

    async fn renew(&self) -> Result<(), kube::Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        let name = &self.identity.name;
        let spec = LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(DURATION_SECS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        let patch = Patch::Merge(json!({"spec": spec}));
        match api.patch(name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                let metadata = ObjectMeta {
                    name: Some(name.clone()),
                    ..ObjectMeta::default()
                };
                let lease = Lease {
                    metadata,
                    spec: Some(spec),
                };
                api.create(&PostParams::default(), &lease).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}
