//! Questions that are asked as objects and never stored: they are no resources of the registry, but part of the API.

use super::components::{add_type, to_dialect};
use super::paths;
use catamaran_api::schema;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use serde_json::{Map, Value};

/// Documents that have such questions.
pub(super) const PATHS: &[&str] = &["apis/authentication.k8s.io/v1", "apis/authorization.k8s.io/v1"];

struct Review {
    path: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    add: fn(&mut schemars::SchemaGenerator),
}

const ALL: &[Review] = &[
    Review {
        path: PATHS[0],
        plural: "selfsubjectreviews",
        kind: "SelfSubjectReview",
        namespaced: false,
        add: |generator| drop(generator.subschema_for::<SelfSubjectReview>()),
    },
    Review {
        path: PATHS[0],
        plural: "tokenreviews",
        kind: "TokenReview",
        namespaced: false,
        add: |generator| drop(generator.subschema_for::<TokenReview>()),
    },
    Review {
        path: PATHS[1],
        plural: "localsubjectaccessreviews",
        kind: "LocalSubjectAccessReview",
        namespaced: true,
        add: |generator| drop(generator.subschema_for::<LocalSubjectAccessReview>()),
    },
    Review {
        path: PATHS[1],
        plural: "selfsubjectaccessreviews",
        kind: "SelfSubjectAccessReview",
        namespaced: false,
        add: |generator| drop(generator.subschema_for::<SelfSubjectAccessReview>()),
    },
    Review {
        path: PATHS[1],
        plural: "selfsubjectrulesreviews",
        kind: "SelfSubjectRulesReview",
        namespaced: false,
        add: |generator| drop(generator.subschema_for::<SelfSubjectRulesReview>()),
    },
    Review {
        path: PATHS[1],
        plural: "subjectaccessreviews",
        kind: "SubjectAccessReview",
        namespaced: false,
        add: |generator| drop(generator.subschema_for::<SubjectAccessReview>()),
    },
];

/// Adds the operations and types of the questions of one document.
pub(super) fn add(path: &str, paths: &mut Map<String, Value>, schemas: &mut Map<String, Value>) {
    let mut generator = schema::generator();
    let group = path.split('/').nth(1).unwrap_or_default();
    let own = || ALL.iter().filter(|review| review.path == path);
    for review in own() {
        (review.add)(&mut generator);
    }
    for (name, mut schema) in generator.take_definitions(false) {
        to_dialect(&mut schema);
        schemas.entry(name).or_insert(schema);
    }
    for review in own() {
        let package = group.split('.').next().unwrap_or_default();
        let name = format!("io.k8s.api.{package}.v1.{}", review.kind);
        add_type(schemas, &name, (group, "v1", review.kind));
        paths::add_question(
            path,
            (group, review.plural, review.kind, review.namespaced),
            &name,
            paths,
        );
    }
}
