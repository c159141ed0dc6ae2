//! Patience with a node that is away: five minutes, unless the pod says otherwise.

use super::{Attributes, Plugin, World, typed_mut};
use crate::kinds::Object;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};

/// How long a pod stays on a node that is not ready or cannot be reached.
const AWAY_SECONDS: i64 = 300;

pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_write_of("v1", "pods")
    }

    async fn mutate(&self, _: &World<'_>, _: &Attributes<'_>, object: &mut Box<dyn Object>) -> Result<(), Status> {
        if let Some(spec) = typed_mut::<Pod>(object.as_mut()).and_then(|pod| pod.spec.as_mut()) {
            for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
                tolerate(spec, key);
            }
        }
        Ok(())
    }
}

fn tolerate(spec: &mut PodSpec, key: &str) {
    let covers = |toleration: &Toleration| {
        matches!(toleration.effect.as_deref(), None | Some("" | "NoExecute"))
            && matches!(toleration.key.as_deref(), None | Some(""))
            || (toleration.key.as_deref() == Some(key)
                && matches!(toleration.effect.as_deref(), None | Some("" | "NoExecute")))
    };
    if spec.tolerations.iter().flatten().any(covers) {
        return;
    }
    spec.tolerations.get_or_insert_default().push(Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(AWAY_SECONDS),
        value: None,
    });
}
