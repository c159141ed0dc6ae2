//! Who owns which fields: `metadata.managedFields`.
//!
//! An owner is a name, an operation, a subresource and, for updates, the version in which it wrote. Everything else of an entry is
//! what it owns and when it last changed that.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde_json::{Map, Value};

use super::set::Set;
use crate::field::quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who an owner is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub manager: String,
    pub operation: Operation,
    /// The version in which it wrote last. Tells updates apart, not applies.
    pub api_version: String,
    /// Empty for the resource itself.
    pub subresource: String,
}

/// What of an object one owner owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub owner: Owner,
    pub time: Option<Timestamp>,
    pub fields: Set,
}

/// All owners of an object's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managers(pub Vec<Entry>);

/// Entries of updates that are kept apart. Beyond, the oldest become one.
pub const MAX_UPDATERS: usize = 10;
/// The manager of those that became one.
const ANCIENT: &str = "ancient-changes";

impl Owner {
    /// Is this the same owner, in whatever version an apply was written?
    pub fn is(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As conflicts name it: `"kubectl-client-side-apply" using apps/v1`.
    pub fn describe(&self) -> String {
        let mut text = quote(&self.manager);
        if !self.subresource.is_empty() {
            text.push_str(" with subresource ");
            text.push_str(&quote(&self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(" using ");
            text.push_str(&self.api_version);
        }
        text
    }

    /// What Kubernetes sorts owners by where nothing else does.
    fn identifier(&self) -> String {
        let mut fields = vec![
            ("manager", self.manager.as_str()),
            ("operation", self.operation.as_str()),
        ];
        if self.operation == Operation::Update {
            fields.push(("apiVersion", self.api_version.as_str()));
        }
        fields.push(("subresource", self.subresource.as_str()));
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let parts: Vec<String> = fields
            .map(|(name, value)| format!("{name:?}:{}", Value::from(value)))
            .collect();
        format!("{{{}}}", parts.join(","))
    }
}

impl Managers {
    pub fn get(&self, owner: &Owner) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.owner.is(owner))
    }

    pub(super) fn get_mut(&mut self, owner: &Owner) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.owner.is(owner))
    }

    pub(super) fn take(&mut self, owner: &Owner) -> Option<Entry> {
        let at = self.0.iter().position(|entry| entry.owner.is(owner))?;
        Some(self.0.remove(at))
    }

    /// Reads `metadata.managedFields`.
    ///
    /// # Errors
    /// Says what is wrong with an entry.
    pub fn decode(entries: &[ManagedFieldsEntry]) -> Result<Self, String> {
        let mut managers = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            let entry = decode_entry(index, entry)?;
            managers.take(&entry.owner);
            managers.0.push(entry);
        }
        Ok(managers)
    }

    /// `metadata.managedFields`; `None` if nobody owns anything.
    pub fn encode(mut self) -> Option<Vec<ManagedFieldsEntry>> {
        self.0.sort_by(|a, b| {
            let second = |entry: &Entry| entry.time.map_or(0, Timestamp::as_second);
            let order = a.owner.operation.cmp(&b.owner.operation);
            order
                .then_with(|| second(a).cmp(&second(b)))
                .then_with(|| a.owner.manager.cmp(&b.owner.manager))
                .then_with(|| a.owner.api_version.cmp(&b.owner.api_version))
                .then_with(|| a.owner.subresource.cmp(&b.owner.subresource))
        });
        let entries: Vec<ManagedFieldsEntry> = self.0.into_iter().map(encode_entry).collect();
        (!entries.is_empty()).then_some(entries)
    }

    /// Makes the oldest updates one, for each version, until there are no more than [`MAX_UPDATERS`].
    pub(super) fn cap(&mut self) {
        let is_update = |entry: &Entry| entry.owner.operation == Operation::Update;
        let mut count = self.0.iter().filter(|entry| is_update(entry)).count();
        if count <= MAX_UPDATERS {
            return;
        }
        let mut owners: Vec<(i64, String, Owner)> = self
            .0
            .iter()
            .filter(|entry| is_update(entry))
            .map(|entry| {
                let second = entry.time.map_or(0, Timestamp::as_second);
                (second, entry.owner.identifier(), entry.owner.clone())
            })
            .collect();
        owners.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let mut first: Vec<Owner> = Vec::new();
        for (_, _, owner) in owners {
            if count <= MAX_UPDATERS {
                break;
            }
            let Some(oldest) = first.iter().find(|first| first.api_version == owner.api_version) else {
                first.push(owner);
                continue;
            };
            let bucket = Owner {
                manager: ANCIENT.to_owned(),
                operation: Operation::Update,
                api_version: owner.api_version.clone(),
                subresource: String::new(),
            };
            if self.get(&bucket).is_none()
                && let Some(mut entry) = self.take(oldest)
            {
                entry.owner = bucket.clone();
                self.0.push(entry);
            }
            if owner.is(&bucket) {
                continue;
            }
            if let Some(entry) = self.take(&owner)
                && let Some(merged) = self.get_mut(&bucket)
            {
                merged.fields = std::mem::take(&mut merged.fields).union(entry.fields);
                merged.time = entry.time;
            }
            count -= 1;
        }
    }
}

fn decode_entry(index: usize, entry: &ManagedFieldsEntry) -> Result<Entry, String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let operation = match entry.operation.as_deref() {
        Some("Apply") => Operation::Apply,
        Some("Update") => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".to_owned()),
    };
    let api_version = text(&entry.api_version);
    if api_version.is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match entry.fields_type.as_deref().unwrap_or_default() {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
        other => {
            let other = quote(other);
            return Err(format!("invalid fieldsType {other} in managed fields entry {index}"));
        }
    }
    let empty = Value::Object(Map::new());
    let fields = entry.fields_v1.as_ref().map_or(&empty, |fields| &fields.0);
    let fields = Set::from_fields(fields).map_err(|error| {
        format!("error decoding versioned set from managed fields entry {index}: error decoding set: {error}")
    })?;
    Ok(Entry {
        owner: Owner {
            manager: text(&entry.manager),
            operation,
            api_version,
            subresource: text(&entry.subresource),
        },
        time: entry.time.as_ref().map(|time| time.0),
        fields,
    })
}

fn encode_entry(entry: Entry) -> ManagedFieldsEntry {
    let text = |text: String| (!text.is_empty()).then_some(text);
    ManagedFieldsEntry {
        api_version: text(entry.owner.api_version),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(entry.fields.to_fields())),
        manager: text(entry.owner.manager),
        operation: Some(entry.owner.operation.as_str().to_owned()),
        subresource: text(entry.owner.subresource),
        time: entry.time.map(Time),
    }
}

/// Do the entries of a request say that nobody is to own anything any more: a list with nothing, or with nothing in its one entry?
pub fn is_reset(entries: Option<&[ManagedFieldsEntry]>) -> bool {
    match entries {
        Some([]) => true,
        Some([only]) => *only == ManagedFieldsEntry::default(),
        _ => false,
    }
}
