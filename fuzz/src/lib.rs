//! What each fuzz target does with its bytes, and what must hold whatever they are.
//!
//! `cargo xtask fuzz TARGET SECONDS` runs one; `seeds/` has a little of what each of them knows already.

#![forbid(unsafe_code)]

#[path = "../../crates/control/src/http/request_info.rs"]
#[allow(dead_code, reason = "the server uses more of it")]
mod request_info;

use catamaran_api::patch::{apply, json, merge, strategic};
use catamaran_api::schema::{Node, Schemas};
use catamaran_api::selector::{FieldSelector, Selector};
use catamaran_api::{Errors, Path, body, structural, yaml};
use bytes::BytesMut;
use catamaran_spdy::frame::{Decoder, Encoder, LONGEST_CONTROL};
use serde_json::{Value, json};

/// Bytes of a target that wants several texts: they are separated by this.
const SEPARATOR: u8 = 0;

/// An object, a patch, and everything the four languages make of the two.
pub fn patch(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == SEPARATOR);
    let (Some(object), Some(patch)) = (parts.next(), parts.next()) else {
        return;
    };
    let Some(object @ Value::Object(_)) = document(object) else {
        return;
    };
    drop(json::apply(&object, patch));
    let Some(patch @ Value::Object(_)) = document(patch) else {
        return;
    };

    let mut merged = object.clone();
    merge::apply(&mut merged, &patch);
    let mut again = merged.clone();
    merge::apply(&mut again, &patch);
    assert_eq!(merged, again, "a merge patch that was applied changes nothing more");

    let node = Schemas::builtin().node("io.k8s.api.core.v1.Pod");
    drop(strategic::apply(&object, &patch, node));
    drop(strategic::apply(&object, &patch, None));
    if let Some(node) = node {
        own(node, &object, &patch);
    }
}

/// Server-side apply of `patch` to `object`, twice: the second time says nothing new.
fn own(node: Node<'_>, object: &Value, patch: &Value) {
    let write = apply::Write {
        versions: &OneVersion(node),
        api_version: "v1",
        subresource: "",
        manager: "fuzz",
        ignored: &apply::Set::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let managers = apply::update(&write, &json!({}), object, apply::Managers::default());
    let Ok(first) = apply::apply(&write, object, patch, managers, true) else {
        return;
    };
    let live = first.object.unwrap_or_else(|| object.clone());
    let second = apply::apply(&write, &live, patch, first.managers.clone(), true);
    let second = second.expect("what was applied once can be applied again");
    assert!(second.object.is_none(), "an apply that was made changes nothing more");
}

struct OneVersion<'n>(Node<'n>);

impl apply::Versions for OneVersion<'_> {
    fn node(&self, api_version: &str) -> Option<Node<'_>> {
        (api_version == "v1").then_some(self.0)
    }

    fn convert(&self, object: &Value, _: &str) -> Option<Value> {
        Some(object.clone())
    }
}

/// A label selector and a field selector, and what they are printed as.
pub fn selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = Selector::parse(text) {
        let printed = selector.to_string();
        let again = Selector::parse(&printed).expect("a selector reads what it prints");
        assert_eq!(printed, again.to_string());
    }
    drop(FieldSelector::parse(text));
}

/// A manifest of any number of documents, and a body in each format.
pub fn manifest(data: &[u8]) {
    for format in [body::Format::Json, body::Format::Yaml, body::Format::Protobuf] {
        drop(body::parse(format, data));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    for document in yaml::documents(text) {
        let Ok(document) = document else { return };
        let printed = yaml::to_string(&document.value).expect("a document can be printed");
        let again = yaml::documents(&printed)
            .next()
            .expect("a document")
            .expect("our own YAML");
        assert_eq!(document.value, again.value, "printed as\n{printed}");
    }
}

/// The schema of a custom resource, an object of it, and a rule.
pub fn definition(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == SEPARATOR);
    let Some(schema) = parts.next().and_then(document) else { return };
    let object = parts.next().and_then(document);
    drop(Schemas::from_openapi(&schema));
    if let Some(object) = &object {
        structure(&schema, object);
    }
    if let Some(rule) = parts.next().and_then(|rule| std::str::from_utf8(rule).ok()) {
        let env = catamaran_cel::Env::new().with_dyn("self");
        if let (Ok(program), Some(object)) = (catamaran_cel::Program::compile(rule, &env), &object) {
            let bindings = catamaran_cel::Bindings::new().with("self", catamaran_cel::Value::untyped(object));
            drop(program.evaluate(&bindings, &mut catamaran_cel::Budget::default()));
        }
    }
}

/// What is done to a custom resource before it is kept; done twice, it is done once.
fn structure(schema: &Value, object: &Value) {
    let Ok(props) = serde_json::from_value(schema.clone()) else { return };
    let Ok(schema) = structural::Schema::new(&props) else { return };
    let mut errors = Errors::new();
    structural::check(&Path::ROOT, &schema, &mut errors);
    if !errors.is_empty() {
        return;
    }
    let mut kept = object.clone();
    structural::prune(&mut kept, &schema, true);
    let left = structural::prune(&mut kept, &schema, true);
    assert!(left.is_empty(), "what was pruned has nothing left to prune: {left:?}");
    structural::apply_defaults(&mut kept, &schema);
    let mut again = kept.clone();
    structural::apply_defaults(&mut again, &schema);
    assert_eq!(kept, again, "what has its defaults gets no more");
    structural::validate(&Path::ROOT, &schema, &kept, Some(object), &mut errors);
    structural::check_lists(&Path::ROOT, &schema, &kept, &mut errors);
}

/// The path of a request.
pub fn path(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        drop(request_info::RequestInfo::parse(text));
    }
}

/// A connection's bytes, cut as the first of them says; what they say is read again from what we would have written.
pub fn spdy(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
    let (mut encoder, mut again) = (Encoder::default(), Decoder::default());
    for piece in data.chunks(usize::from(*cut) + 1) {
        buffer.extend_from_slice(piece);
        loop {
            let frame = match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return,
            };
            let mut written = BytesMut::new();
            encoder.encode(&frame, &mut written);
            let read = again.decode(&mut written).expect("a frame we wrote").expect("all of it");
            assert_eq!(read, frame);
            assert!(written.is_empty(), "one frame was written, and more was read");
        }
        assert!(buffer.len() <= LONGEST_CONTROL + 256, "what was read is kept");
    }
}

fn document(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}
