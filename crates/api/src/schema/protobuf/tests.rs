//! Messages are written byte by byte here: what a decoder and its own encoder agree on proves little.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 128);
    [&[number << 3 | 2, length][..], content].concat()
}

fn envelope(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [
        MAGIC.to_vec(),
        bytes(1, &type_meta),
        bytes(2, object),
        bytes(3, b""),
        bytes(4, b""),
    ]
    .concat()
}

#[test]
fn a_secret_as_kubectl_sends_it() {
    let time = bytes(8, b"");
    let metadata = [bytes(1, b"s"), bytes(2, b""), bytes(3, b""), vec![7 << 3, 0], time].concat();
    let pair = [bytes(1, b"k"), bytes(2, &[0xff, 0])].concat();
    // `immutable: false` is a statement, an empty type is none.
    let secret = [bytes(1, &metadata), bytes(2, &pair), bytes(3, b""), vec![5 << 3, 0]].concat();
    assert_eq!(
        decode(&envelope("v1", "Secret", &secret)).unwrap(),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "/wA="}, "immutable": false})
    );
}

#[test]
fn a_pod_with_everything_odd() {
    let quantity = [bytes(1, b"cpu"), bytes(2, &bytes(1, b"500m"))].concat();
    let port = [vec![1 << 3, 0, 2 << 3, 80], bytes(3, b"")].concat();
    let probe = bytes(1, &bytes(2, &bytes(2, &port)));
    let container = [bytes(1, b"c"), bytes(8, &bytes(1, &quantity)), bytes(10, &probe)].concat();
    let volume = [bytes(1, b"v"), bytes(2, &bytes(2, b""))].concat();
    let negative = [vec![4 << 3], vec![0xff; 9], vec![1]].concat();
    let spec = [bytes(1, &volume), bytes(2, &container), negative, vec![11 << 3, 0]].concat();
    assert_eq!(
        decode(&envelope("v1", "Pod", &bytes(2, &spec))).unwrap(),
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "terminationGracePeriodSeconds": -1,
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": 80}}}]}})
    );
}

#[test]
fn malformed() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::NoMagic));
    assert_eq!(decode(&envelope("v1", "Nope", b"")), Err(ProtobufError::UnknownKind));
    let type_meta = [bytes(1, b"v1"), bytes(2, b"Pod")].concat();
    let compressed = [MAGIC, &bytes(1, &type_meta), &bytes(3, b"gzip")].concat();
    assert_eq!(decode(&compressed), Err(ProtobufError::Encoded));
    let deep = (0..12).fold(Vec::new(), |inner, _| bytes(3, &bytes(2, &bytes(2, &inner))));
    assert!(decode(&envelope_of_any_length("v1", "Pod", &deep)).is_ok());
    assert_eq!(decode(&[MAGIC, &[0x0a, 0x7f]].concat()), Err(ProtobufError::Truncated));
    assert_eq!(
        decode(&envelope("v1", "Pod", &[1 << 3, 1])),
        Err(ProtobufError::WrongType)
    );
}

/// Every name in the table is a field of its type; otherwise it would silently be lost.
#[test]
fn the_table_fits_the_schemas() {
    let schemas = Schemas::builtin();
    for (message, fields) in TABLE.iter() {
        let Some(index) = schemas.by_name.get(&definition_of(message)) else {
            continue;
        };
        for field in fields.values().filter(|field| field.inlined.is_none()) {
            let known = schemas.definitions[*index].fields.contains_key(field.name);
            assert!(known, "{message}.{}", field.name);
        }
    }
}

/// Messages within messages with numbers that fields have, so that the walk gets somewhere.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let field = (
        1_u8..16,
        prop_oneof![
            any::<u8>().prop_map(|number| (0, vec![number & 0x7f])),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(|content| (2, content)),
            any::<[u8; 8]>().prop_map(|bits| (1, bits.to_vec())),
        ],
    );
    let field = field.prop_map(|(number, (wire, content))| match wire {
        2 => bytes(number, &content),
        wire => [vec![number << 3 | wire], content].concat(),
    });
    let leaf = prop::collection::vec(field, 0..4).prop_map(|fields| fields.concat());
    leaf.prop_recursive(6, 60, 4, |inner| {
        prop::collection::vec((1_u8..16, inner), 0..4).prop_map(|fields| {
            let fields = fields.into_iter().filter(|(_, content)| content.len() < 100);
            fields.flat_map(|(number, content)| bytes(number, &content)).collect()
        })
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(object in prop::collection::vec(any::<u8>(), 0..100), kind in "Pod|Secret|Node|Event|Binding|DeleteOptions") {
        let _ = decode(&object);
        let _ = decode(&[MAGIC, &object].concat());
        let _ = decode(&envelope("v1", &kind, &object));
    }

    #[test]
    fn no_messages_panic(object in messages(), kind in "Pod|Secret|Node|Event|Binding|DeleteOptions", cut in any::<prop::sample::Index>()) {
        let whole = envelope_of_any_length("v1", &kind, &object);
        let _ = decode(&whole);
        let _ = decode(&whole[..cut.index(whole.len())]);
    }
}

fn envelope_of_any_length(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    let length = [0x80 | (object.len() & 0x7f) as u8, (object.len() >> 7) as u8];
    [MAGIC, &bytes(1, &type_meta), &[2 << 3 | 2], &length, object].concat()
}

/// Every type of the stable API can be read whole: what the table lacks would be lost without a word.
#[test]
fn the_table_covers_the_schemas() {
    let mut missing = Vec::new();
    let mut types = 0;
    for definition in &Schemas::builtin().definitions {
        types += 1;
        let fields = message_for(&definition.name).map(names).unwrap_or_default();
        for name in definition.fields.keys() {
            // Of whole objects, the envelope says these.
            let top_level = definition.fields.contains_key("metadata") || definition.name.ends_with("DeleteOptions");
            let of_the_envelope = matches!(&**name, "apiVersion" | "kind") && top_level;
            if !fields.contains(&**name) && !of_the_envelope {
                missing.push(format!("{}.{name}", definition.name));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(types > 400, "{types}");
}

/// The fields of a message, those of the messages it inlines among them.
fn names(message: &str) -> std::collections::BTreeSet<&'static str> {
    let fields = TABLE[message].values();
    fields
        .flat_map(|field| field.inlined.map_or_else(|| [field.name].into(), names))
        .collect()
}

#[test]
fn times_and_raw_values() {
    // 1970 is a time; an empty message is none. A negative count of seconds takes ten bytes.
    let second = |bytes: &[u8]| {
        Walk {
            schemas: Schemas::builtin(),
        }
        .value(&Type::Time, Wire::Bytes(bytes), 0)
    };
    assert_eq!(second(&[]), Ok(Value::Null));
    assert_eq!(second(&[1 << 3, 0, 2 << 3, 0]), Ok(json!("1970-01-01T00:00:00Z")));
    let before = [vec![1 << 3], vec![0xff; 9], vec![1]].concat();
    assert_eq!(second(&before), Ok(json!("1969-12-31T23:59:59Z")));
    let never = [vec![1 << 3], vec![0xff; 8], vec![0x7f]].concat();
    assert_eq!(second(&never), Err(ProtobufError::WrongType));
    let raw = |bytes: &[u8]| {
        Walk {
            schemas: Schemas::builtin(),
        }
        .value(&Type::Any, Wire::Bytes(bytes), 0)
    };
    assert_eq!(raw(&bytes(1, br#"{"f:a":{}}"#)), Ok(json!({"f:a": {}})));
    assert_eq!(raw(&bytes(1, b"")), Ok(Value::Null));
    assert_eq!(raw(&bytes(1, b"{")), Err(ProtobufError::WrongType));
}

#[test]
fn a_lease_a_binding_and_options() {
    let spec = [
        bytes(1, b""),
        vec![2 << 3, 0],
        bytes(4, &[1 << 3, 10, 2 << 3, 0xc0, 0x84, 0x3d]),
    ]
    .concat();
    assert_eq!(
        decode(&envelope("coordination.k8s.io/v1", "Lease", &bytes(2, &spec))).unwrap(),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 0, "renewTime": "1970-01-01T00:00:10.001000Z"}})
    );
    let target = [bytes(1, b"Node"), bytes(3, b"n")].concat();
    assert_eq!(
        decode(&envelope("v1", "Binding", &bytes(2, &target))).unwrap(),
        json!({"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "n"}})
    );
    // Options say the version of what they act on.
    let options = [vec![1 << 3, 0], bytes(2, &bytes(1, b"u")), bytes(4, b"Background")].concat();
    for version in ["v1", "coordination.k8s.io/v1"] {
        assert_eq!(
            decode(&envelope(version, "DeleteOptions", &options)).unwrap(),
            json!({"apiVersion": version, "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"},
                "propagationPolicy": "Background"})
        );
    }
}

#[test]
fn a_review() {
    let groups = bytes(2, &[bytes(1, b"g1"), bytes(1, b"g2")].concat());
    let extra = bytes(5, &[bytes(1, b"k"), groups].concat());
    let attributes = bytes(
        1,
        &[bytes(1, b"ns"), bytes(2, b"get"), bytes(3, b""), bytes(5, b"pods")].concat(),
    );
    let spec = [attributes, bytes(3, b"jane"), extra].concat();
    assert_eq!(
        decode(&envelope(
            "authorization.k8s.io/v1",
            "SubjectAccessReview",
            &bytes(2, &spec)
        ))
        .unwrap(),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "resourceAttributes": {"namespace": "ns", "verb": "get", "resource": "pods"},
            "user": "jane", "extra": {"k": ["g1", "g2"]}}})
    );
}
