//! Which kinds the server has, from its aggregated discovery documents (`apidiscovery.k8s.io/v2`).

use super::{Connection, explain};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One kind of object and the URL path it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl Resource {
    /// `pods`, `deployments.apps`: how kubectl names it in messages.
    pub(crate) fn qualified(&self) -> String {
        self.with_group(&self.plural)
    }

    /// `pod`, `deployment.apps`: how kubectl names one object of it.
    pub(crate) fn qualified_singular(&self) -> String {
        self.with_group(&self.singular)
    }

    fn with_group(&self, name: &str) -> String {
        if self.group.is_empty() {
            name.to_owned()
        } else {
            format!("{name}.{}", self.group)
        }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The collection's path; `namespace` is ignored for cluster-wide kinds, `None` spans all namespaces.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let base = if self.group.is_empty() {
            "/api/".to_owned()
        } else {
            format!("/apis/{}/", self.group)
        };
        match namespace {
            Some(namespace) if self.namespaced => {
                format!("{base}{}/namespaces/{namespace}/{}", self.version, self.plural)
            }
            _ => format!("{base}{}/{}", self.version, self.plural),
        }
    }

    fn answers_to(&self, word: &str) -> bool {
        let (name, group) = match word.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (word, None),
        };
        let named = [&self.plural, &self.singular]
            .into_iter()
            .chain(&self.short_names)
            .any(|known| known == name)
            || self.kind.to_lowercase() == name;
        let grouped = group.is_none_or(|group| {
            group == self.group || group == format!("{}.{}", self.version, self.group).trim_end_matches('.')
        });
        named && grouped
    }
}

/// Every kind of the server, core first.
pub(crate) struct Catalogue {
    pub(crate) resources: Vec<Resource>,
}

impl Catalogue {
    pub(crate) async fn fetch(connection: &Connection) -> Result<Self> {
        let mut resources = Vec::new();
        for path in ["/api", "/apis"] {
            let request = http::Request::get(path)
                .header(http::header::ACCEPT, ACCEPT)
                .body(Vec::new())?;
            let text = connection
                .client
                .request_text(request)
                .await
                .map_err(|error| explain(error, &connection.server))?;
            let list: GroupList = serde_json::from_str(&text).context("the server's discovery cannot be read")?;
            resources.extend(list.items.into_iter().flat_map(Group::into_resources));
        }
        Ok(Self { resources })
    }

    /// Asks the server again if it had no kind of the object's name before: a manifest may define a kind (with a
    /// CustomResourceDefinition or an APIService) and then use it. Whether it has one now is for [`Self::by_kind`] to say.
    pub(crate) async fn learn(&mut self, connection: &Connection, object: &Value) -> Result<()> {
        let field = |name: &str| object[name].as_str().unwrap_or_default();
        if self.by_kind(field("apiVersion"), field("kind")).is_err() {
            *self = Self::fetch(connection).await?;
        }
        Ok(())
    }

    /// The kind a user means by `word` (plural, singular, short name, kind; `.group` may follow), in lower or upper case.
    pub(crate) fn find(&self, word: &str) -> Result<&Resource> {
        let word = word.to_lowercase();
        match self.resources.iter().find(|resource| resource.answers_to(&word)) {
            Some(resource) => Ok(resource),
            None => bail!("the server doesn't have a resource type {word:?}; see `cata api-resources`"),
        }
    }

    /// Kinds of a category (`all`), if there is one of that name.
    pub(crate) fn category(&self, word: &str) -> Vec<&Resource> {
        self.resources
            .iter()
            .filter(|resource| resource.categories.iter().any(|category| category == word))
            .collect()
    }

    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Result<&Resource> {
        let found = self
            .resources
            .iter()
            .find(|resource| resource.kind == kind && resource.api_version() == api_version);
        match found {
            Some(resource) => Ok(resource),
            None => bail!("no matches for kind {kind:?} in version {api_version:?}; see `cata api-resources`"),
        }
    }
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: GroupMetadata,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct GroupMetadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    resource: String,
    response_kind: ResponseKind,
    scope: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
}

#[derive(Deserialize)]
struct ResponseKind {
    #[serde(default)]
    kind: String,
}

impl Group {
    fn into_resources(self) -> impl Iterator<Item = Resource> {
        let group = self.metadata.name;
        self.versions.into_iter().flat_map(move |version| {
            let group = group.clone();
            version.resources.into_iter().map(move |entry| Resource {
                group: group.clone(),
                version: version.version.clone(),
                singular: if entry.singular_resource.is_empty() {
                    entry.response_kind.kind.to_lowercase()
                } else {
                    entry.singular_resource
                },
                kind: entry.response_kind.kind,
                plural: entry.resource,
                short_names: entry.short_names,
                categories: entry.categories,
                namespaced: entry.scope == "Namespaced",
                verbs: entry.verbs,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let document = serde_json::json!({"items": [
            {"metadata": {}, "versions": [{"version": "v1", "resources": [
                {"resource": "pods", "responseKind": {"kind": "Pod"}, "scope": "Namespaced", "singularResource": "pod",
                 "verbs": ["get"], "shortNames": ["po"], "categories": ["all"]}]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced",
                 "singularResource": "deployment", "verbs": ["get"], "shortNames": ["deploy"]}]}]},
        ]});
        let list: GroupList = serde_json::from_value(document).expect("a discovery document");
        Catalogue {
            resources: list.items.into_iter().flat_map(Group::into_resources).collect(),
        }
    }

    #[test]
    fn words_find_kinds_as_in_kubectl() {
        let catalogue = catalogue();
        for (word, plural) in [
            ("pod", "pods"),
            ("Pods", "pods"),
            ("po", "pods"),
            ("deploy", "deployments"),
            ("deployments.apps", "deployments"),
            ("deployments.v1.apps", "deployments"),
            ("pods.v1", "pods"),
        ] {
            assert_eq!(catalogue.find(word).expect(word).plural, plural);
        }
        let refused = catalogue.find("widgets").expect_err("unknown").to_string();
        assert!(
            refused.starts_with("the server doesn't have a resource type \"widgets\""),
            "{refused}"
        );
        assert_eq!(catalogue.category("all").len(), 1);
    }

    #[test]
    fn paths_follow_scope_and_group() {
        let catalogue = catalogue();
        let (pods, deployments) = (&catalogue.resources[0], &catalogue.resources[1]);
        assert_eq!(pods.path(Some("default")), "/api/v1/namespaces/default/pods");
        assert_eq!(deployments.path(None), "/apis/apps/v1/deployments");
    }
}
