//! In which form the client wants its answer.

use catamaran_api::Status;
use http::{HeaderMap, header};

/// The language of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Json,
    Yaml,
}

/// How much of the objects, and arranged how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Whole,
    Table,
    PartialMetadata,
    Discovery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) language: Language,
    pub(crate) shape: Shape,
}

const PLAIN: Form = Form {
    language: Language::Json,
    shape: Shape::Whole,
};
const ACCEPTED: &[&str] = &["application/json", "application/yaml"];

impl Form {
    pub(crate) fn content_type(self) -> &'static str {
        match (self.language, self.shape) {
            (Language::Yaml, _) => "application/yaml",
            (Language::Json, Shape::Discovery) => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            (Language::Json, _) => "application/json",
        }
    }
}

/// The first form in the `Accept` header that this server can produce, of those whose shape is `offered`. Clients list
/// what they can read in the order they like it, protobuf often first.
pub(crate) fn accepted(headers: &HeaderMap, offered: &[Shape]) -> Result<Form, Status> {
    let mut any = false;
    for value in headers.get_all(header::ACCEPT) {
        let text = value.to_str().map_err(|_| Status::not_acceptable(ACCEPTED))?;
        for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            any = true;
            if let Some(form) = form(range, offered) {
                return Ok(form);
            }
        }
    }
    if any {
        Err(Status::not_acceptable(ACCEPTED))
    } else {
        Ok(PLAIN)
    }
}

fn form(range: &str, offered: &[Shape]) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    let language = match parts.next()? {
        "application/json" | "application/*" | "*/*" => Language::Json,
        "application/yaml" => Language::Yaml,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => kind = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            Some(("q", "0" | "0.0")) => return None,
            _ => {}
        }
    }
    let shape = match (kind, group, version) {
        ("", ..) => Shape::Whole,
        ("Table", "meta.k8s.io", "v1") => Shape::Table,
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Shape::PartialMetadata,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Shape::Discovery,
        _ => return None,
    };
    (shape == Shape::Whole || offered.contains(&shape)).then_some(Form { language, shape })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &'static str, expected: Option<(Language, Shape)>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, http::HeaderValue::from_static(accept));
        let form = accepted(&headers, &[Shape::Table, Shape::PartialMetadata]).ok();
        assert_eq!(form.map(|form| (form.language, form.shape)), expected, "{accept}");
    }

    #[test]
    fn the_first_that_can_be_had() {
        check(
            "application/vnd.kubernetes.protobuf, application/json",
            Some((Language::Json, Shape::Whole)),
        );
        check("application/vnd.kubernetes.protobuf", None);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some((Language::Json, Shape::Table)),
        );
        check(
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io,*/*;q=0.8",
            Some((Language::Json, Shape::Whole)),
        );
        check("application/yaml", Some((Language::Yaml, Shape::Whole)));
        check(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
            Some((Language::Json, Shape::Whole)),
        );
    }
}
