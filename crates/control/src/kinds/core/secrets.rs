//! Secret: a ConfigMap for what must not be shown.

use crate::kinds::Kind;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

pub(in crate::kinds) struct Secrets;

impl Kind for Secrets {
    type Object = Secret;
    const NAMESPACED: bool = true;
    const FIELD_SELECTORS: &'static [&'static str] = &["type"];

    /// `stringData` is a way to write only: it lands in `data`, where it wins.
    fn default(&self, object: &mut Secret) {
        if let Some(plain) = object.string_data.take() {
            let data = object.data.get_or_insert_default();
            data.extend(plain.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        }
        object.type_.get_or_insert_with(|| "Opaque".to_owned());
    }
}
