//! The nulls of Kubernetes: moments that nobody has set.
//!
//! Go's encoder leaves out empty strings and zeros, but not a struct, and a moment is one: whoever reads a pod finds
//! `lastProbeTime: null` in each of its conditions. `k8s-openapi` leaves such fields out. This serializer stands before the one that
//! writes, knows the few types that have them by name, and adds what they did not say.

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant, Serializer,
};
use std::fmt::Display;

/// The moments that the types of `k8s.io/api` keep as values, without `omitzero`.
fn moments(name: &str) -> &'static [&'static str] {
    match name {
        "PodCondition" | "PersistentVolumeClaimCondition" | "JobCondition" => &["lastProbeTime", "lastTransitionTime"],
        "NodeCondition" => &["lastHeartbeatTime", "lastTransitionTime"],
        "DeploymentCondition" | "CertificateSigningRequestCondition" => &["lastTransitionTime", "lastUpdateTime"],
        "APIServiceCondition"
        | "CustomResourceDefinitionCondition"
        | "DaemonSetCondition"
        | "FlowSchemaCondition"
        | "HorizontalPodAutoscalerCondition"
        | "NamespaceCondition"
        | "PriorityLevelConfigurationCondition"
        | "ReplicaSetCondition"
        | "ReplicationControllerCondition"
        | "StatefulSetCondition" => &["lastTransitionTime"],
        "ContainerStateRunning" => &["startedAt"],
        "ContainerStateTerminated" => &["finishedAt", "startedAt"],
        "EventSeries" => &["lastObservedTime"],
        "VolumeError" => &["time"],
        EVENT => EVENTS_EVENT,
        _ => &[],
    }
}

/// There are two types of this name, told apart by a field that one of them always has.
const EVENT: &str = "Event";
const CORE_FIELD: &str = "involvedObject";
const CORE_EVENT: &[&str] = &["eventTime", "firstTimestamp", "lastTimestamp"];
const EVENTS_EVENT: &[&str] = &["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"];

/// Writes to `S`, with the nulls that types of Kubernetes have.
pub(super) struct WithNulls<S>(pub(super) S);

/// A value that is serialized with its nulls.
struct Value<'v, T: ?Sized>(&'v T);

impl<T: Serialize + ?Sized> Serialize for Value<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(WithNulls(serializer))
    }
}

/// The fields of a struct, and those of its moments that were not among them yet.
pub(super) struct Fields<S> {
    to: S,
    moments: &'static [&'static str],
    /// A bit for each of them.
    said: u8,
}

impl<S> Fields<S> {
    fn note(&mut self, key: &'static str) {
        if let Some(index) = self.moments.iter().position(|moment| *moment == key) {
            self.said |= 1 << index;
        } else if key == CORE_FIELD {
            self.moments = CORE_EVENT;
        }
    }

    fn unsaid(&self) -> impl Iterator<Item = &'static str> + use<S> {
        let said = self.said;
        let moments = self.moments.iter().enumerate();
        moments
            .filter(move |(index, _)| said & (1 << index) == 0)
            .map(|(_, moment)| *moment)
    }
}

impl<S: SerializeStruct> SerializeStruct for Fields<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), S::Error> {
        if !self.moments.is_empty() {
            self.note(key);
        }
        self.to.serialize_field(key, &Value(value))
    }

    fn skip_field(&mut self, key: &'static str) -> Result<(), S::Error> {
        self.to.skip_field(key)
    }

    fn end(mut self) -> Result<S::Ok, S::Error> {
        for moment in self.unsaid() {
            self.to.serialize_field(moment, &())?;
        }
        self.to.end()
    }
}

/// What is handed on as it is.
macro_rules! scalars {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.0.$method(value)
        })*
    };
}

impl<S: Serializer> Serializer for WithNulls<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = WithNulls<S::SerializeSeq>;
    type SerializeTuple = WithNulls<S::SerializeTuple>;
    type SerializeTupleStruct = WithNulls<S::SerializeTupleStruct>;
    type SerializeTupleVariant = WithNulls<S::SerializeTupleVariant>;
    type SerializeMap = WithNulls<S::SerializeMap>;
    type SerializeStruct = Fields<S::SerializeStruct>;
    type SerializeStructVariant = WithNulls<S::SerializeStructVariant>;

    scalars! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_f32: f32,
        serialize_f64: f64,
        serialize_char: char,
        serialize_str: &str,
        serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.collect_str(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.0.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.0.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Value(value))
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.0.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &Value(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &Value(value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.0.serialize_seq(len).map(WithNulls)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.0.serialize_tuple(len).map(WithNulls)
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.0.serialize_tuple_struct(name, len).map(WithNulls)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.0.serialize_tuple_variant(name, index, variant, len).map(WithNulls)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.0.serialize_map(len).map(WithNulls)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        let moments = moments(name);
        Ok(Fields {
            // One that is said to have no fields is closed at once.
            to: self.0.serialize_struct(name, len + moments.len())?,
            moments,
            said: 0,
        })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.0
            .serialize_struct_variant(name, index, variant, len)
            .map(WithNulls)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// What consists of values that are handed on one by one.
macro_rules! sequences {
    ($($of:ident: $method:ident,)*) => {
        $(impl<S: $of> $of for WithNulls<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.0.$method(&Value(value))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

sequences! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

impl<S: SerializeMap> SerializeMap for WithNulls<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.0.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_value(&Value(value))
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), S::Error> {
        self.0.serialize_entry(key, &Value(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

impl<S: SerializeStructVariant> SerializeStructVariant for WithNulls<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), S::Error> {
        self.0.serialize_field(key, &Value(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::typed_to_vec;
    use super::moments;
    use crate::schema::Schemas;
    use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Event, Pod, PodCondition, PodStatus};
    use k8s_openapi::api::events::v1::Event as EventsEvent;
    use serde_json::{Value, json};

    fn written(value: &impl serde::Serialize) -> Value {
        serde_json::from_slice(&typed_to_vec(value).unwrap()).unwrap()
    }

    #[test]
    fn moments_that_nobody_set_are_null() {
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}]},
        }))
        .unwrap();
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "status": {"conditions": [{
                "type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:05Z",
            }]},
        });
        assert_eq!(written(&pod), expected);
        let state = ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 1,
                ..Default::default()
            }),
            ..Default::default()
        };
        let expected = json!({"terminated": {"exitCode": 1, "startedAt": null, "finishedAt": null}});
        assert_eq!(written(&state), expected);
        // What has none is as it was.
        assert_eq!(typed_to_vec(&PodStatus::default()).unwrap(), b"{}");
        assert_eq!(written(&PodCondition::default())["lastProbeTime"], Value::Null);
    }

    #[test]
    fn there_are_two_sorts_of_events() {
        let nulls = |event: Value| {
            let fields = event.as_object().unwrap().iter();
            let nulls = fields.filter(|(_, value)| value.is_null());
            nulls.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            nulls(written(&Event::default())),
            ["eventTime", "firstTimestamp", "lastTimestamp"]
        );
        let event = EventsEvent::default();
        assert_eq!(
            nulls(written(&event)),
            ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"]
        );
    }

    /// A name that is written wrongly would do nothing.
    #[test]
    fn the_types_have_these_fields() {
        for (definition, fields) in [
            ("apps.v1.DeploymentCondition", 2),
            ("apps.v1.StatefulSetCondition", 1),
            ("apps.v1.DaemonSetCondition", 1),
            ("apps.v1.ReplicaSetCondition", 1),
            ("autoscaling.v2.HorizontalPodAutoscalerCondition", 1),
            ("batch.v1.JobCondition", 2),
            ("certificates.v1.CertificateSigningRequestCondition", 2),
            ("core.v1.ContainerStateRunning", 1),
            ("core.v1.ContainerStateTerminated", 2),
            ("core.v1.EventSeries", 1),
            ("core.v1.NamespaceCondition", 1),
            ("core.v1.NodeCondition", 2),
            ("core.v1.PersistentVolumeClaimCondition", 2),
            ("core.v1.PodCondition", 2),
            ("core.v1.ReplicationControllerCondition", 1),
            ("flowcontrol.v1.FlowSchemaCondition", 1),
            ("flowcontrol.v1.PriorityLevelConfigurationCondition", 1),
            ("storage.v1.VolumeError", 1),
        ] {
            let node = Schemas::builtin().node(&format!("io.k8s.api.{definition}")).unwrap();
            let name = definition.rsplit('.').next().unwrap();
            let moments = moments(name);
            assert_eq!(moments.len(), fields, "{definition}");
            for moment in moments {
                assert!(node.field(moment).is_some(), "{definition} has no {moment}");
            }
        }
    }
}
