//! What a service account's token says.

use serde::{Deserialize, Serialize};

/// Claims of RFC 7519, and Kubernetes' own.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    pub(super) iss: String,
    #[serde(default)]
    pub(super) sub: String,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) aud: Vec<String>,
    /// Seconds since 1970; tokens of Secrets have none of the three.
    pub(super) exp: Option<i64>,
    pub(super) nbf: Option<i64>,
    #[serde(default)]
    pub(super) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(super) kubernetes: Option<Private>,
    /// Of a token in a Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub(super) legacy_namespace: Option<String>,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub(super) legacy_secret: Option<String>,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub(super) legacy_name: Option<String>,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub(super) legacy_uid: Option<String>,
}

/// The account, and what its token is bound to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Private {
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Reference>,
    #[serde(default)]
    pub(super) serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warnafter: Option<i64>,
}

/// An object by name and uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

/// What a token lives and dies with, beside its account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bound {
    #[default]
    Nothing,
    /// A pod, and the node it runs on if it has one.
    Pod(Reference, Option<Reference>),
    Secret(Reference),
    Node(Reference),
}

/// A token to be made.
#[derive(Clone, Debug)]
pub(crate) struct Issue<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: Reference,
    pub(crate) bound: Bound,
    pub(crate) audiences: &'a [String],
    pub(crate) seconds: i64,
    /// After how many seconds its use is worth a warning.
    pub(crate) warn_after: Option<i64>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}
