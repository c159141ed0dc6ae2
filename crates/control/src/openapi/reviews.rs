//! Questions that are asked as objects and never stored: they are no resources of the registry, but part of the API.

use super::components::{add_type, to_dialect};
use super::paths;
use catamaran_api::schema::{self, published};
use serde_json::{Map, Value};

/// Documents that have such questions.
pub(super) const PATHS: &[&str] = &["apis/authentication.k8s.io/v1", "apis/authorization.k8s.io/v1"];

struct Review {
    path: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
}

const ALL: &[Review] = &[
    Review {
        path: PATHS[0],
        plural: "selfsubjectreviews",
        kind: "SelfSubjectReview",
        namespaced: false,
    },
    Review {
        path: PATHS[0],
        plural: "tokenreviews",
        kind: "TokenReview",
        namespaced: false,
    },
    Review {
        path: PATHS[1],
        plural: "localsubjectaccessreviews",
        kind: "LocalSubjectAccessReview",
        namespaced: true,
    },
    Review {
        path: PATHS[1],
        plural: "selfsubjectaccessreviews",
        kind: "SelfSubjectAccessReview",
        namespaced: false,
    },
    Review {
        path: PATHS[1],
        plural: "selfsubjectrulesreviews",
        kind: "SelfSubjectRulesReview",
        namespaced: false,
    },
    Review {
        path: PATHS[1],
        plural: "subjectaccessreviews",
        kind: "SubjectAccessReview",
        namespaced: false,
    },
];

/// Adds the operations and types of the questions of one document.
pub(super) fn add(path: &str, paths: &mut Map<String, Value>, schemas: &mut Map<String, Value>) {
    let group = path.split('/').nth(1).unwrap_or_default();
    let own = || ALL.iter().filter(|review| review.path == path);
    let names: Vec<String> = own()
        .map(|review| schema::name_of_kind(group, "v1", review.kind))
        .collect();
    for (name, mut schema) in published::with_references(names.iter().map(String::as_str)) {
        to_dialect(&mut schema);
        schemas.entry(name).or_insert(schema);
    }
    for (review, name) in own().zip(&names) {
        add_type(schemas, name, (group, "v1", review.kind));
        paths::add_question(
            path,
            (group, review.plural, review.kind, review.namespaced),
            name,
            paths,
        );
    }
}
