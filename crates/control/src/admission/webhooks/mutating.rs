//! Webhooks that may change the object, one after the other.
//!
//! Whoever is called early has not seen what later ones did. One that asks for it (`reinvocationPolicy: IfNeeded`) is called
//! once more if the object was changed after its turn, by a webhook or by the plugins that ran again because of that.

use super::super::derived::Derived;
use super::super::loose::Loose;
use super::super::matching::is_exempt;
use super::super::views::has_own_kind;
use super::super::{Attributes, Operation, Plugin, World};
use super::call::UNAVAILABLE;
use super::{Hook, Trouble, config};
use crate::kinds::Object;
use crate::registry::resource::Resource;
use async_trait::async_trait;
use catamaran_api::Status;
use catamaran_api::patch::json as json_patch;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// What the first round leaves for the second.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Webhooks that were called and may be called again.
    called: BTreeSet<String>,
    /// Those among them that have to be.
    due: BTreeSet<String>,
    /// The object as the last webhook left it.
    output: Option<Value>,
}

impl Memory {
    /// The object changed: all that were called before have to look again.
    fn changed(&mut self) {
        self.due.append(&mut self.called);
    }
}

pub(crate) struct MutatingWebhooks {
    hooks: Derived<Vec<Arc<Hook>>>,
}

impl Default for MutatingWebhooks {
    fn default() -> Self {
        MutatingWebhooks {
            hooks: Derived::new(
                "admissionregistration.k8s.io/v1",
                "mutatingwebhookconfigurations",
                config::mutating,
            ),
        }
    }
}

#[async_trait]
impl Plugin for MutatingWebhooks {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !is_exempt(attributes)
    }

    async fn mutate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        let hooks = self.hooks.get(world);
        if hooks.is_empty() {
            return Ok(());
        }
        let again = before(attributes, object.as_ref())?;
        for (index, hook) in hooks.iter().enumerate() {
            if again && !attributes.reinvocation.lock().webhooks.due.contains(&hook.id()) {
                continue;
            }
            let Some(resource) = hook.wants(world, attributes, Some(object.as_ref())).await? else {
                continue;
            };
            let round = u8::from(again);
            let start = Instant::now();
            let outcome = call(hook, world, attributes, object, &resource).await;
            hook.measure(world, attributes, "admit", start, &outcome);
            let changed = match outcome {
                Ok(changed) => changed,
                Err(trouble) => {
                    if let Some(status) = hook.refusal(trouble) {
                        return Err(status);
                    }
                    let key = format!("failed-open.mutation.webhook.admission.k8s.io/round_{round}_index_{index}");
                    attributes.annotate(key, hook.name.clone());
                    false
                }
            };
            let note = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
            let key = format!("mutation.webhook.admission.k8s.io/round_{round}_index_{index}");
            attributes.annotate(key, note.to_string());
            let mut reinvocation = attributes.reinvocation.lock();
            if changed {
                reinvocation.wanted = true;
                reinvocation.webhooks.changed();
            }
            if hook.reinvocable {
                reinvocation.webhooks.called.insert(hook.id());
            }
        }
        let output = tree(object.as_ref())?;
        attributes.reinvocation.lock().webhooks.output = Some(output);
        Ok(())
    }

    /// Deletions have nothing that could be changed; the webhooks are asked all the same.
    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        if attributes.operation != Operation::Delete {
            return Ok(());
        }
        for hook in self.hooks.get(world).iter() {
            let Some(resource) = hook.wants(world, attributes, object).await? else {
                continue;
            };
            let start = Instant::now();
            let asked = hook.ask(world, attributes, object, &resource, true).await;
            let outcome = asked.and_then(|(answer, _)| patched(hook, answer.patch.as_deref(), &Value::Null));
            hook.measure(world, attributes, "admit", start, &outcome);
            if let Err(trouble) = outcome
                && let Some(status) = hook.refusal(trouble)
            {
                return Err(status);
            }
        }
        Ok(())
    }
}

/// Is this the second round? If so, plugins may have changed the object since the first.
fn before(attributes: &Attributes<'_>, object: &dyn Object) -> Result<bool, Status> {
    if !attributes.reinvocation.lock().again {
        return Ok(false);
    }
    let now = tree(object)?;
    let memory = &mut attributes.reinvocation.lock().webhooks;
    if memory.output.as_ref() != Some(&now) {
        memory.changed();
    }
    Ok(true)
}

fn tree(object: &dyn Object) -> Result<Value, Status> {
    object.to_value().map_err(Status::internal)
}

/// Asks one webhook and applies its patch. True if that changed the object.
async fn call(
    hook: &Hook,
    world: &World<'_>,
    attributes: &Attributes<'_>,
    object: &mut Box<dyn Object>,
    resource: &Resource,
) -> Result<bool, Trouble> {
    let whole = object.boxed_clone();
    if attributes.operation == Operation::Create {
        // What the server decides later is not the webhook's to see or set.
        let meta = object.meta_mut();
        meta.uid = None;
        meta.creation_timestamp = None;
        meta.generation = None;
    }
    let asked = hook.ask(world, attributes, Some(object.as_ref()), resource, true).await;
    let patched = match asked {
        Ok((answer, sent)) => patched(hook, answer.patch.as_deref(), &sent),
        Err(trouble) => Err(trouble),
    };
    let patched = match patched {
        Ok(Some(patched)) => patched,
        Ok(None) => {
            *object = whole;
            return Ok(false);
        }
        Err(trouble) => {
            *object = whole;
            return Err(trouble);
        }
    };
    let mut new = remade(world, attributes, patched, resource)
        .await
        .map_err(Trouble::Refused)?;
    if attributes.operation == Operation::Create {
        let meta = new.meta_mut();
        meta.uid.clone_from(&whole.meta().uid);
        meta.creation_timestamp.clone_from(&whole.meta().creation_timestamp);
        meta.generation = whole.meta().generation;
    }
    let trees = (tree(new.as_ref()), tree(whole.as_ref()));
    let changed = match trees {
        (Ok(new), Ok(old)) => new != old,
        _ => true,
    };
    *object = new;
    Ok(changed)
}

/// The object after the patch; `None` if there is nothing to do.
fn patched(hook: &Hook, patch: Option<&[u8]>, sent: &Value) -> Result<Option<Value>, Trouble> {
    let Some(patch) = patch else { return Ok(None) };
    match serde_json::from_slice::<Value>(patch) {
        Err(error) => {
            let why = format!("received undecodable patch in webhook response: {error}");
            return Err(Trouble::failed(UNAVAILABLE, why));
        }
        Ok(Value::Array(operations)) if operations.is_empty() => return Ok(None),
        Ok(_) => {}
    }
    if sent.is_null() {
        let why = format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(Trouble::Refused(Status::internal(why)));
    }
    json_patch::apply(sent, patch)
        .map(Some)
        .map_err(|status| Trouble::Refused(Status::internal(status.message())))
}

/// An object of the request's kind from what a webhook made of it.
async fn remade(
    world: &World<'_>,
    attributes: &Attributes<'_>,
    patched: Value,
    resource: &Resource,
) -> Result<Box<dyn Object>, Status> {
    let own = &attributes.target.resource;
    if has_own_kind(own, attributes.subresource) {
        return Ok(Box::new(Loose::new(patched)));
    }
    let tree = if own.api_version == resource.api_version {
        patched
    } else {
        world.registry.converted(resource, own, patched).await?
    };
    let mut new = own.kind.decode(tree).map_err(Status::internal)?;
    own.kind.default(new.as_mut());
    Ok(new)
}
