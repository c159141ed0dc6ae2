//! PodTemplate: a template of its own, for controllers that are not ours.

use crate::core::pods::template;
use crate::{Kind, cells, differs, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::{PodTemplate, PodTemplateSpec};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct PodTemplates;

impl Kind for PodTemplates {
    type Object = PodTemplate;
    const NAMESPACED: bool = true;

    fn default(&self, object: &mut PodTemplate) {
        template::default(object.template.get_or_insert_default());
    }

    fn spec_changed(&self, new: &PodTemplate, old: &PodTemplate) -> Option<bool> {
        differs(&new.template, &old.template)
    }

    fn validate(&self, object: &PodTemplate, errors: &mut Errors) {
        let none = PodTemplateSpec::default();
        let template = object.template.as_ref().unwrap_or(&none);
        template::validate(template, &Path::new("template"), errors);
    }

    fn warnings(&self, new: &PodTemplate, old: Option<&PodTemplate>) -> Vec<String> {
        if old.is_some_and(|old| old.template == new.template) {
            return Vec::new();
        }
        let template = new.template.as_ref();
        template.map_or_else(Vec::new, |template| template::warn(template, &Path::new("template")))
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Containers", "Names of the containers in the template."),
            Column::string("Images", "Images of the containers in the template."),
            Column::string("Pod Labels", "Labels that pods get from the template."),
        ];
        COLUMNS
    }

    fn row(&self, object: &PodTemplate, _now: Timestamp) -> Vec<Value> {
        let template = object.template.as_ref();
        let [names, images] = cells::names_and_images(cells::containers(template));
        let metadata = template.and_then(|template| template.metadata.as_ref());
        let labels = metadata.and_then(|metadata| metadata.labels.as_ref());
        vec![
            name(&object.metadata),
            names.into(),
            images.into(),
            cells::labels(labels).into(),
        ]
    }
}
