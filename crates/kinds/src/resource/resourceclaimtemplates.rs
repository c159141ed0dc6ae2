//! ResourceClaimTemplate: what the claims look like that pods get for themselves.

use super::claim;
use crate::Kind;
use crate::checks::{immutable, labels};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;

pub(crate) struct ResourceClaimTemplates;

impl Kind for ResourceClaimTemplates {
    type Object = ResourceClaimTemplate;
    const NAMESPACED: bool = true;

    fn default(&self, object: &mut ResourceClaimTemplate) {
        claim::default(&mut object.spec.spec);
    }

    fn validate(&self, object: &ResourceClaimTemplate, errors: &mut Errors) {
        let path = Path::new("spec");
        if let Some(metadata) = &object.spec.metadata {
            let at = path.child("metadata");
            for key in metadata.annotations.iter().flat_map(|annotations| annotations.keys()) {
                let lower = key.to_lowercase();
                errors.invalid_each(&at.child("annotations"), key, names::qualified_name(&lower));
            }
            labels(metadata.labels.as_ref(), &at.child("labels"), errors);
        }
        claim::validate(&object.spec.spec, &path.child("spec"), errors);
    }

    fn validate_update(&self, new: &ResourceClaimTemplate, old: &ResourceClaimTemplate, errors: &mut Errors) {
        immutable(&new.spec, &old.spec, &Path::new("spec"), errors);
    }
}
