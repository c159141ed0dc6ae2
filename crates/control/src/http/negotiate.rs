//! In which form the client wants its answer: language, shape, and indentation.
//!
//! Clients list what they can read, with weights (`Accept`). Kubernetes goes through the list from the heaviest on and takes the
//! first entry it can produce for this endpoint: tables are never protobuf, custom resources neither, and what has no protobuf
//! form falls through to whatever the client named next.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>

use catamaran_api::Status;
use http::{HeaderMap, header};

/// The language of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Json,
    Yaml,
    Protobuf,
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

/// What an endpoint can produce beside whole objects in JSON and YAML.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Other shapes. Tables are JSON or YAML.
    shapes: &'static [Shape],
    /// Do whole objects have a protobuf form?
    protobuf: bool,
}

impl Offer {
    /// Objects of a built-in kind.
    pub(crate) const BUILTIN: Self = Offer {
        shapes: &[Shape::Table, Shape::PartialMetadata],
        protobuf: true,
    };
    /// Objects of a kind defined at run time.
    pub(crate) const DEFINED: Self = Offer {
        protobuf: false,
        ..Self::BUILTIN
    };
    /// Errors, and answers to questions.
    pub(crate) const PLAIN: Self = Offer {
        shapes: &[],
        protobuf: true,
    };
    /// What is served.
    pub(crate) const DISCOVERY: Self = Offer {
        shapes: &[Shape::Discovery],
        protobuf: true,
    };

    fn allows(self, language: Language, shape: Shape) -> bool {
        match shape {
            Shape::Whole => language != Language::Protobuf || self.protobuf,
            Shape::Table => language != Language::Protobuf && self.shapes.contains(&shape),
            Shape::PartialMetadata | Shape::Discovery => self.shapes.contains(&shape),
        }
    }
}

/// All languages, in the order in which wildcards are understood.
const LANGUAGES: [(Language, &str); 3] = [
    (Language::Json, "json"),
    (Language::Yaml, "yaml"),
    (Language::Protobuf, "vnd.kubernetes.protobuf"),
];

const PLAIN: Form = Form {
    language: Language::Json,
    shape: Shape::Whole,
};

/// Entries that are looked at. No client lists more.
const MOST_RANGES: usize = 64;

impl Language {
    const fn media_type(self) -> &'static str {
        match self {
            Language::Json => "application/json",
            Language::Yaml => "application/yaml",
            Language::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

impl Form {
    pub(crate) fn content_type(self) -> &'static str {
        match (self.language, self.shape) {
            (Language::Yaml, Shape::Discovery) => {
                "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            (Language::Json, Shape::Discovery) => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            (Language::Protobuf, Shape::Discovery) => {
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            (language, _) => language.media_type(),
        }
    }

    /// Of a stream of events. `None`: the language has none.
    pub(crate) const fn stream_type(self) -> Option<&'static str> {
        match self.language {
            Language::Json => Some(Language::Json.media_type()),
            Language::Protobuf => Some("application/vnd.kubernetes.protobuf;stream=watch"),
            Language::Yaml => None,
        }
    }
}

/// The best form the client asks for that the endpoint can produce.
pub(crate) fn accepted(headers: &HeaderMap, offer: Offer) -> Result<Form, Status> {
    // The first header counts, as in Go.
    let text = match headers.get(header::ACCEPT).map(|value| value.to_str()) {
        None | Some(Ok("")) => return Ok(PLAIN),
        Some(Ok(text)) => text,
        Some(Err(_)) => return Err(not_acceptable()),
    };
    ranges(text)
        .iter()
        .find_map(|range| range.form(offer))
        .ok_or_else(not_acceptable)
}

/// For what this endpoint cannot answer in.
pub(super) fn not_acceptable() -> Status {
    Status::not_acceptable(&LANGUAGES.map(|(language, _)| language.media_type()))
}

/// For a watch in a language that has no events.
pub(crate) fn no_stream() -> Status {
    Status::not_acceptable(&[
        "application/json;stream=watch",
        "application/vnd.kubernetes.protobuf;stream=watch",
    ])
}

/// An entry of the list.
#[derive(Debug)]
struct Range<'h> {
    main: &'h str,
    sub: &'h str,
    quality: f32,
    parameters: &'h str,
}

/// The entries, the heaviest first; among equals, those without wildcards.
fn ranges(text: &str) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for range in text.split(',').filter_map(Range::parse).take(MOST_RANGES) {
        // Not an order in the sense of mathematics, so that the way it is applied is a part of it.
        let mut at = ranges.len();
        while at > 0 && range.goes_before(&ranges[at - 1]) {
            at -= 1;
        }
        ranges.insert(at, range);
    }
    ranges
}

impl<'h> Range<'h> {
    fn parse(text: &'h str) -> Option<Self> {
        let (media, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (main, sub) = match media.split_once('/') {
            None | Some((_, "")) if media.trim().trim_end_matches('/') == "*" => ("*", "*"),
            None | Some((_, "")) => return None,
            Some((_, sub)) if sub.contains('/') => return None,
            Some((main, sub)) => (main.trim(), sub.trim()),
        };
        let quality = pairs(parameters).filter(|(key, _)| *key == "q").last();
        Some(Range {
            main,
            sub,
            quality: quality.map_or(1.0, |(_, value)| value.parse().unwrap_or(0.0)),
            parameters,
        })
    }

    fn goes_before(&self, other: &Self) -> bool {
        self.quality > other.quality || (self.main != "*" && other.main == "*") || (self.sub != "*" && other.sub == "*")
    }

    fn form(&self, offer: Offer) -> Option<Form> {
        let matching = LANGUAGES.into_iter().filter(|(_, sub)| match (self.main, self.sub) {
            ("*" | "application", "*") => true,
            ("application", own) => own == *sub,
            _ => false,
        });
        matching.into_iter().find_map(|(language, _)| {
            let shape = self.shape(language)?;
            offer.allows(language, shape).then_some(Form { language, shape })
        })
    }

    /// What the parameters ask for. `None`: nothing we have.
    fn shape(&self, language: Language) -> Option<Shape> {
        let (mut kind, mut group, mut version, mut converted) = ("", "", "", false);
        for (key, value) in pairs(self.parameters) {
            match key {
                "as" => (kind, converted) = (value, true),
                "g" => (group, converted) = (value, true),
                "v" => (version, converted) = (value, true),
                "stream" if value != "watch" || language == Language::Yaml => return None,
                "sv" if value != "v1" => return None,
                _ => {}
            }
        }
        match (kind, group, version) {
            _ if !converted => Some(Shape::Whole),
            ("Table", "meta.k8s.io", "v1") => Some(Shape::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                Some(Shape::PartialMetadata)
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Some(Shape::Discovery),
            _ => None,
        }
    }
}

/// `key=value`, of which malformed and empty ones are no part.
fn pairs(parameters: &str) -> impl Iterator<Item = (&str, &str)> {
    parameters.split(';').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (!value.is_empty() && !value.contains('=')).then_some((key.trim(), value.trim()))
    })
}

/// Is JSON to be indented? Whoever asks with `?pretty`, and people who sit before a browser or a shell.
pub(crate) fn wants_indentation(uri: &http::Uri, headers: &HeaderMap) -> bool {
    let query = uri.query().unwrap_or_default();
    if query.contains("pretty")
        && let Some(pretty) = super::query::raw(query, "pretty").filter(|value| !value.is_empty())
    {
        return matches!(&*pretty, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(header::USER_AGENT).map(http::HeaderValue::as_bytes);
    let agent = agent.unwrap_or_default();
    [&b"curl"[..], b"Wget", b"Mozilla/5.0"]
        .iter()
        .any(|human| agent.starts_with(human))
}

#[cfg(test)]
mod tests {
    use super::Language::{Json, Protobuf, Yaml};
    use super::Shape::{PartialMetadata, Table, Whole};
    use super::*;

    #[track_caller]
    fn check(offer: Offer, accept: &'static str, expected: Option<(Language, Shape)>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, http::HeaderValue::from_static(accept));
        let form = accepted(&headers, offer).ok();
        assert_eq!(form.map(|form| (form.language, form.shape)), expected, "{accept}");
    }

    #[test]
    fn the_best_that_can_be_had() {
        for (accept, expected) in [
            ("", Some((Json, Whole))),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some((Protobuf, Whole)),
            ),
            ("application/vnd.kubernetes.protobuf", Some((Protobuf, Whole))),
            (
                "application/vnd.kubernetes.protobuf;stream=watch",
                Some((Protobuf, Whole)),
            ),
            (
                "application/vnd.kubernetes.protobuf;stream=other,application/yaml",
                Some((Yaml, Whole)),
            ),
            ("application/yaml;stream=watch", None),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some((Json, Table)),
            ),
            (
                "application/json;as=Table;v=v1alpha1;g=meta.k8s.io,*/*;q=0.8",
                Some((Json, Whole)),
            ),
            // No table is protobuf.
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
                Some((Json, Table)),
            ),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", None),
            // … but where any language will do.
            ("*/*;as=Table;v=v1;g=meta.k8s.io", Some((Json, Table))),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some((Protobuf, PartialMetadata)),
            ),
            (
                "application/json;q=0.5,application/vnd.kubernetes.protobuf",
                Some((Protobuf, Whole)),
            ),
            (
                "application/json;q=0.1, application/yaml;q=0.3 , application/vnd.kubernetes.protobuf;q=0.2",
                Some((Yaml, Whole)),
            ),
            ("*/*,application/yaml", Some((Yaml, Whole))),
            ("application/*,application/yaml", Some((Yaml, Whole))),
            ("*/*;q=0.9,application/yaml;q=0.1", Some((Yaml, Whole))),
            ("*", Some((Json, Whole))),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some((Json, Whole))),
            ("text/html", None),
            ("application/JSON", None),
            // The least of weights is a weight.
            ("application/json;q=0", Some((Json, Whole))),
            ("application/json;sv=v2", None),
            ("application/json;profile=x;charset=utf-8", Some((Json, Whole))),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some((Json, Whole)),
            ),
        ] {
            check(Offer::BUILTIN, accept, expected);
        }
    }

    #[test]
    fn what_is_defined_has_no_protobuf_form() {
        for (accept, expected) in [
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some((Json, Whole)),
            ),
            ("application/vnd.kubernetes.protobuf", None),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Some((Protobuf, PartialMetadata)),
            ),
        ] {
            check(Offer::DEFINED, accept, expected);
        }
    }

    #[test]
    fn people_get_lines() {
        for (uri, agent, expected) in [
            ("/api", "kubectl/v1.35.0", false),
            ("/api", "curl/8.5.0", true),
            ("/api?pretty=false", "curl/8.5.0", false),
            ("/api?pretty=", "curl/8.5.0", true),
            ("/api?pretty=true", "kubectl/v1.35.0", true),
            ("/api?pretty=yes", "Mozilla/5.0 (X11)", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, http::HeaderValue::from_static(agent));
            assert_eq!(
                wants_indentation(&uri.parse().unwrap(), &headers),
                expected,
                "{uri} {agent}"
            );
        }
    }
}
