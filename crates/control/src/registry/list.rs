//! GET of a collection: a consistent view of it, whole or in pages.

use super::filter::Filter;
use super::resource::Resource;
use super::{Registry, Target, store_failed, unreadable};
use crate::watch_cache::Record;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catamaran_api::field::quote;
use catamaran_api::{Errors, GroupKind, Path, Status};
use catamaran_store::{Error as StoreError, Page, Revision};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How long a request for a revision that is not there yet waits for it.
const FUTURE_PATIENCE: Duration = Duration::from_secs(3);
/// Objects read from the store at a time when a page of the past is filtered.
const PAST_CHUNK: usize = 500;

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

impl VersionMatch {
    /// Reads the query parameter; empty is `None`.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, Status> {
        match text {
            "" => Ok(None),
            "Exact" => Ok(Some(VersionMatch::Exact)),
            "NotOlderThan" => Ok(Some(VersionMatch::NotOlderThan)),
            other => {
                let mut errors = Errors::new();
                errors.not_supported(
                    &Path::new("resourceVersionMatch"),
                    other,
                    &["Exact", "NotOlderThan", ""],
                );
                Err(invalid_options(&errors))
            }
        }
    }
}

/// What a list asks for.
#[derive(Debug)]
pub(crate) struct ListOptions {
    pub(crate) filter: Filter,
    /// 0: everything.
    pub(crate) limit: usize,
    /// Empty: from the start.
    pub(crate) continue_token: String,
    /// Empty: the latest.
    pub(crate) resource_version: String,
    pub(crate) version_match: Option<VersionMatch>,
    /// Only for watches; refused here.
    pub(crate) send_initial_events: Option<bool>,
}

/// A list, or a page of one.
pub(crate) struct List {
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) revision: Revision,
    /// Empty: this is the end.
    pub(crate) continue_token: String,
    pub(crate) remaining: Option<u64>,
}

/// Where the next page starts. The form is Kubernetes', but nobody may rely on it.
#[derive(Serialize, Deserialize)]
struct Continue {
    #[serde(default)]
    v: String,
    /// Revision of the list; -1: whatever is there.
    #[serde(default)]
    rv: i64,
    /// The last key of the page before, below the collection's prefix.
    #[serde(default)]
    start: String,
}

const CONTINUE_VERSION: &str = "meta.k8s.io/v1";

impl Registry {
    pub(crate) async fn list(&self, target: &Target, options: &ListOptions) -> Result<List, Status> {
        check(options)?;
        let prefix = target.resource.prefix(target.namespace.as_deref());
        if !options.continue_token.is_empty() {
            return self.next_page(target, &prefix, options).await;
        }
        match options.resource_version.as_str() {
            "" => self.caches.fresh().await?,
            "0" => {}
            version => {
                let revision = parse_version(version)?;
                self.caches.wait_for(revision, FUTURE_PATIENCE).await?;
                // A page of a named revision is a page of just that one, so that the next ones fit to it.
                let paged = options.version_match.is_none() && options.limit > 0;
                if paged || options.version_match == Some(VersionMatch::Exact) {
                    return self.at(target, &prefix, None, revision, options).await;
                }
            }
        }
        self.present(target, &prefix, None, options).await
    }

    /// From the cache, as it is now.
    async fn present(
        &self,
        target: &Target,
        prefix: &str,
        after: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let name = options
            .filter
            .name
            .as_deref()
            .filter(|_| target.resource.info.namespaced == target.namespace.is_some());
        let wanted = name.map_or_else(|| prefix.to_owned(), |name| format!("{prefix}{name}"));
        let broken = self.cache(&target.resource)?.broken(&wanted);
        if let Some(broken) = broken.filter(|broken| name.is_none() || *broken.key == *wanted) {
            return Err(unreadable(&broken));
        }
        if target.resource.converter.is_some() {
            return self.present_converted(target, prefix, after, options).await;
        }
        let filter = &options.filter;
        let cache = self.cache(&target.resource)?;
        let everything = filter.is_everything();
        let selection = match (&filter.name, &target.namespace, target.resource.info.namespaced) {
            // One name in one scope is one object.
            (Some(name), namespace, namespaced) if namespaced == namespace.is_some() => {
                let key = target.resource.key(namespace.as_deref(), name);
                let mut selection = cache.select(&key, after, 0, |record| *record.key == *key);
                selection.records.retain(|record| filter.matches(record));
                selection
            }
            _ => cache.select(prefix, after, options.limit, |record| {
                everything || filter.matches(record)
            }),
        };
        let token = match selection.records.last() {
            Some(last) if selection.more => token(selection.revision, prefix, &last.key),
            _ => String::new(),
        };
        Ok(List {
            // How many of the remaining ones match is not known without looking at them.
            remaining: (selection.more && everything).then_some(selection.remaining),
            records: selection.records,
            revision: selection.revision,
            continue_token: token,
        })
    }

    /// The same where objects may be kept in another version: what selectors ask for is known only in the version asked for.
    async fn present_converted(
        &self,
        target: &Target,
        prefix: &str,
        after: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let filter = &options.filter;
        let limit = if filter.is_everything() { options.limit } else { 0 };
        let selection = self.cache(&target.resource)?.select(prefix, after, limit, |_| true);
        let mut records = self.shown(&target.resource, selection.records).await?;
        records.retain(|record| filter.matches(record));
        let mut more = selection.more;
        if options.limit > 0 && records.len() > options.limit {
            records.truncate(options.limit);
            more = true;
        }
        let token = match records.last() {
            Some(last) if more => token(selection.revision, prefix, &last.key),
            _ => String::new(),
        };
        Ok(List {
            remaining: (selection.more && filter.is_everything()).then_some(selection.remaining),
            records,
            revision: selection.revision,
            continue_token: token,
        })
    }

    async fn next_page(&self, target: &Target, prefix: &str, options: &ListOptions) -> Result<List, Status> {
        let (revision, start) = parse_token(&options.continue_token)?;
        let after = format!("{prefix}{start}");
        let Some(revision) = revision else {
            self.caches.fresh().await?;
            return self.present(target, prefix, Some(&after), options).await;
        };
        self.caches.wait_for(revision, FUTURE_PATIENCE).await?;
        self.at(target, prefix, Some(&after), revision, options).await
    }

    /// As of a revision: from the cache while nothing has changed since, else from the store's history.
    async fn at(
        &self,
        target: &Target,
        prefix: &str,
        after: Option<&str>,
        revision: Revision,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let cache = self.cache(&target.resource)?;
        if cache.unchanged_since(revision) {
            let mut list = self.present(target, prefix, after, options).await?;
            // Only if it is still so now that the objects were picked.
            if cache.unchanged_since(revision) {
                list.revision = revision;
                if let (false, Some(last)) = (list.continue_token.is_empty(), list.records.last()) {
                    list.continue_token = token(revision, prefix, &last.key);
                }
                return Ok(list);
            }
        }
        self.past(target, prefix, after, revision, options).await
    }

    async fn past(
        &self,
        target: &Target,
        prefix: &str,
        after: Option<&str>,
        revision: Revision,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let everything = options.filter.is_everything();
        let mut records: Vec<Arc<Record>> = Vec::new();
        let mut after = after.map(ToOwned::to_owned);
        loop {
            let wanted = if options.limit == 0 {
                0
            } else {
                options.limit - records.len()
            };
            let chunk = if everything || wanted == 0 { wanted } else { PAST_CHUNK };
            let page = match self.store.range(prefix, after.as_deref(), chunk, Some(revision)).await {
                Ok(page) => page,
                Err(StoreError::Compacted { .. }) => return Err(self.expired(options, prefix, after.as_deref())),
                Err(error) => return Err(store_failed(&error)),
            };
            let count = page.entries.len();
            after = page.entries.last().map(|entry| entry.key.to_string()).or(after);
            // Converted all at once: where that is a webhook's work, a page is one question.
            let read = read(&target.resource, &page)?;
            let found = self.shown(&target.resource, read).await?;
            for record in found {
                if !everything && !options.filter.matches(&record) {
                    continue;
                }
                records.push(Arc::clone(&record));
                if options.limit > 0 && records.len() == options.limit {
                    let behind = page.entries.partition_point(|entry| entry.key <= record.key);
                    let remaining = page.remaining + (count - behind) as u64;
                    let next = if remaining > 0 {
                        token(revision, prefix, &record.key)
                    } else {
                        String::new()
                    };
                    let remaining = (remaining > 0 && everything).then_some(remaining);
                    return Ok(List {
                        records,
                        revision,
                        continue_token: next,
                        remaining,
                    });
                }
            }
            if !page.more {
                return Ok(List {
                    records,
                    revision,
                    continue_token: String::new(),
                    remaining: None,
                });
            }
        }
    }

    fn expired(&self, options: &ListOptions, prefix: &str, after: Option<&str>) -> Status {
        if options.continue_token.is_empty() {
            return Status::expired("The resourceVersion for the provided list is too old.");
        }
        let start = after.and_then(|key| key.strip_prefix(prefix)).unwrap_or_default();
        Status::expired_continue(Some(&encode_token(-1, start)))
    }
}

/// The objects of a page of the store. One that cannot be served fails them all.
fn read(resource: &Resource, page: &Page) -> Result<Vec<Arc<Record>>, Status> {
    let record = |entry| {
        let record = Record::read(resource.storage(), entry);
        match record.failure() {
            Some(_) => Err(unreadable(&record)),
            None => Ok(Arc::new(record)),
        }
    };
    page.entries.iter().map(record).collect()
}

/// Options that contradict each other.
fn check(options: &ListOptions) -> Result<(), Status> {
    let mut errors = Errors::new();
    if options.version_match.is_some() {
        let path = Path::new("resourceVersionMatch");
        if options.resource_version.is_empty() {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if !options.continue_token.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
        if options.version_match == Some(VersionMatch::Exact) && options.resource_version == "0" {
            errors.forbidden(
                &path,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
    }
    if options.send_initial_events.is_some() {
        errors.forbidden(
            &Path::new("sendInitialEvents"),
            "sendInitialEvents is forbidden for list",
        );
    }
    if !errors.is_empty() {
        return Err(invalid_options(&errors));
    }
    if !options.continue_token.is_empty() && !matches!(options.resource_version.as_str(), "" | "0") {
        return Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    Ok(())
}

/// Query parameters of a list or watch that are wrong.
pub(super) fn invalid_options(errors: &Errors) -> Status {
    Status::invalid(&GroupKind::from_static("meta.k8s.io", "ListOptions"), "", errors)
}

/// A resource version as a client sends it.
pub(super) fn parse_version(text: &str) -> Result<Revision, Status> {
    revision(text).map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))
}

/// The same for requests whose failure has no reason in Kubernetes: the bare complaint.
pub(crate) fn revision(text: &str) -> Result<Revision, String> {
    text.parse().map_err(|_| {
        format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")
    })
}

fn token(revision: Revision, prefix: &str, last: &str) -> String {
    encode_token(
        i64::try_from(revision).unwrap_or(i64::MAX),
        last.strip_prefix(prefix).unwrap_or(last),
    )
}

fn encode_token(revision: i64, start: &str) -> String {
    let token = Continue {
        v: CONTINUE_VERSION.to_owned(),
        rv: revision,
        start: start.to_owned(),
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// The revision (`None`: inconsistent, whatever is there) and the last key, without the prefix.
fn parse_token(text: &str) -> Result<(Option<Revision>, String), Status> {
    let invalid = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|error| invalid(&format!("illegal base64 data: {error}")))?;
    let token: Continue = serde_json::from_slice(&bytes).map_err(|error| invalid(&error.to_string()))?;
    if token.v != CONTINUE_VERSION {
        let why = format!("server does not recognize this encoded version {}", quote(&token.v));
        return Err(invalid(&why));
    }
    if token.rv == 0 {
        return Err(invalid(
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ));
    }
    if token.start.is_empty() {
        return Err(invalid("encoded start key empty (version meta.k8s.io/v1)"));
    }
    if !is_clean(&token.start) {
        return Err(Status::bad_request(format!(
            "invalid continue token: continue key is not valid: {}",
            token.start
        )));
    }
    Ok((Revision::try_from(token.rv).ok(), token.start))
}

/// Stays below the collection it is appended to.
fn is_clean(start: &str) -> bool {
    let start = start.strip_prefix('/').unwrap_or(start);
    start.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
