//! Fields that are accepted at creation and will not do what their author expects.

use catamaran_api::unsupported;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

pub(super) fn pod(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut warnings: Vec<String> = unsupported::pod(spec).iter().map(|field| not_yet(field)).collect();
    for (list, containers) in lists(spec) {
        for (index, container) in containers.iter().enumerate() {
            let path = format!("spec.{list}[{index}]");
            let fields = unsupported::container(container);
            warnings.extend(fields.iter().map(|field| not_yet(&format!("{path}.{field}"))));
            warnings.extend(hidden_variables(container, &path));
            warnings.extend(fractional_bytes(container, &path));
        }
    }
    warnings
}

fn lists(spec: &PodSpec) -> [(&'static str, &[Container]); 2] {
    [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", &spec.containers),
    ]
}

fn not_yet(field: &str) -> String {
    format!("{field}: not supported by Catamaran yet; containers that need it will not start")
}

/// Of two variables with one name the last one counts; a merge keeps only one.
fn hidden_variables(container: &Container, path: &str) -> Vec<String> {
    let variables = container.env.as_deref().unwrap_or_default();
    let hides = |index: usize| {
        variables[..index]
            .iter()
            .any(|other| other.name == variables[index].name)
    };
    (0..variables.len())
        .filter(|index| hides(*index))
        .map(|index| {
            let name = catamaran_api::field::quote(&variables[index].name);
            format!("{path}.env[{index}]: hides previous definition of {name}, which may be dropped when using apply")
        })
        .collect()
}

fn fractional_bytes(container: &Container, path: &str) -> Vec<String> {
    let Some(resources) = &container.resources else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    for (list, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for name in ["memory", "ephemeral-storage"] {
            let Some(amount) = amounts.as_ref().and_then(|amounts| amounts.get(name)) else {
                continue;
            };
            let quantity = catamaran_api::quantity::Quantity::try_from(amount);
            if quantity.is_ok_and(|quantity| !quantity.is_integer()) {
                let amount = catamaran_api::field::quote(&amount.0);
                warnings.push(format!(
                    "{path}.resources.{list}[{name}]: fractional byte value {amount} is invalid, must be an integer"
                ));
            }
        }
    }
    warnings
}
