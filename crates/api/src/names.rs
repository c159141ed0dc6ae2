//! Which names, keys and numbers Kubernetes accepts, and how it words a refusal.
//!
//! Every check returns the list of messages for a value, empty when it is fine; the caller pairs them with a field path
//! ([`crate::Errors::invalid_each`]). The grammars are the published ones
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>), written as byte predicates: they run for every
//! object that is created, and the messages quote the regular expression anyway.

/// Longest DNS label, in bytes (RFC 1123).
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain, in bytes (RFC 1123).
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                          start and end with an alphanumeric character";
const SUBDOMAIN_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                              '.', and must start and end with an alphanumeric character";
const DNS1035_FMT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const DNS1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                            alphabetic character, and end with an alphanumeric character";
const KEY_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character";
const VALUE_FMT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                          and must start and end with an alphanumeric character";
const CONFIG_KEY_FMT: &str = "[-._a-zA-Z0-9]+";
const CONFIG_KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const HTTP_HEADER_FMT: &str = "[-A-Za-z0-9]+";
const HTTP_HEADER_TEXT: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
const SYSCTL_FMT: &str = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";

pub fn max_length(bytes: usize) -> String {
    format!("must be no more than {bytes} characters")
}

pub fn inclusive_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A message with the grammar it comes from; the odd comma before "or" is Kubernetes' own.
pub fn grammar(text: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{format}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!(
        "{text} (e.g. {}regex used for validation is '{format}')",
        examples.join(" or ")
    )
}

const fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// First and last byte satisfy `edge`, all others `edge` or `middle`.
fn bounded(text: &str, edge: fn(u8) -> bool, middle: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    edge(first) && edge(last) && bytes.iter().all(|&byte| edge(byte) || middle.contains(&byte))
}

fn is_label(text: &str) -> bool {
    bounded(text, lower_alphanumeric, b"-")
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_key(text: &str) -> bool {
    bounded(text, |byte| byte.is_ascii_alphanumeric(), b"-_.")
}

/// RFC 1123 label: names of namespaces, containers, volumes.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > LABEL_MAX {
        messages.push(max_length(LABEL_MAX));
    }
    if !is_label(value) {
        if is_subdomain(value) {
            messages.push("must not contain dots".to_owned());
        } else {
            messages.push(grammar(LABEL_TEXT, LABEL_FMT, &["my-name", "123-abc"]));
        }
    }
    messages
}

/// RFC 1123 subdomain: names of most objects.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        messages.push(max_length(SUBDOMAIN_MAX));
    }
    if !is_subdomain(value) {
        messages.push(grammar(SUBDOMAIN_TEXT, SUBDOMAIN_FMT, &["example.com"]));
    }
    messages
}

/// As [`dns1123_subdomain`], with underscores too: search domains.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    const TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and \
                        must start and end with an alphanumeric character";
    const FORMAT: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
    let mut messages = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        messages.push(max_length(SUBDOMAIN_MAX));
    }
    let label = |label: &str| bounded(label.strip_prefix('_').unwrap_or(label), lower_alphanumeric, b"-_");
    if !value.split('.').all(label) {
        messages.push(grammar(TEXT, FORMAT, &["example.com"]));
    }
    messages
}

/// RFC 1035 label: names of services.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > LABEL_MAX {
        messages.push(max_length(LABEL_MAX));
    }
    if !(is_label(value) && value.as_bytes()[0].is_ascii_lowercase()) {
        messages.push(grammar(DNS1035_TEXT, DNS1035_FMT, &["my-name", "abc-123"]));
    }
    messages
}

/// A name generated from a prefix: the part a client gives as `generateName` may end in dashes.
pub fn as_prefix(value: &str, check: fn(&str) -> Vec<String>) -> Vec<String> {
    match value.strip_suffix('-') {
        Some(_) if value.len() > 1 => check(&format!("{}a", &value[..value.len() - 1])),
        _ => check(value),
    }
}

/// `.`, `..`, and anything with `/` or `%` cannot be a segment of a URL.
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ['/', '%']
        .iter()
        .filter(|c| value.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// A label key, annotation key, finalizer or resource name: `name` or `prefix/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                messages.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|message| format!("prefix part {message}")),
                );
            }
            name
        }
        _ => {
            let text = grammar(KEY_TEXT, KEY_FMT, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a valid label key {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        messages.push(format!("name part {}", max_length(LABEL_MAX)));
    }
    if !is_key(name) {
        messages.push(format!(
            "name part {}",
            grammar(KEY_TEXT, KEY_FMT, &["MyName", "my.name", "123-abc"])
        ));
    }
    messages
}

pub fn label_value(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > LABEL_MAX {
        messages.push(max_length(LABEL_MAX));
    }
    if !value.is_empty() && !is_key(value) {
        messages.push(grammar(VALUE_TEXT, VALUE_FMT, &["MyValue", "my_value", "12345"]));
    }
    messages
}

/// A key of a ConfigMap's or Secret's data.
pub fn config_key(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        messages.push(max_length(SUBDOMAIN_MAX));
    }
    if value.is_empty()
        || !value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        messages.push(grammar(
            CONFIG_KEY_TEXT,
            CONFIG_KEY_FMT,
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    if value == "." {
        messages.push("must not be '.'".to_owned());
    } else if value == ".." {
        messages.push("must not be '..'".to_owned());
    } else if value.starts_with("..") {
        messages.push("must not start with '..'".to_owned());
    }
    messages
}

/// An environment variable, by the relaxed rule that is the default since Kubernetes 1.34.
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.is_empty() {
        messages.push("environment variable name must be non-empty".to_owned());
    }
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        messages.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    messages
}

/// The name of a port: an IANA service name.
pub fn port_name(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 15 {
        messages.push(max_length(15));
    }
    if value.is_empty() || !value.bytes().all(|byte| lower_alphanumeric(byte) || byte == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

pub fn port_number(port: i32) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec![inclusive_range(1, 65535)]
    }
}

pub fn http_header(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    vec![grammar(HTTP_HEADER_TEXT, HTTP_HEADER_FMT, &["X-Header-Name"])]
}

/// A sysctl, with `.` or `/` between its parts.
pub fn sysctl(value: &str) -> Vec<String> {
    let mut parts = value.split(['.', '/']);
    if value.len() <= SUBDOMAIN_MAX && parts.all(|part| bounded(part, lower_alphanumeric, b"-_")) {
        return Vec::new();
    }
    vec![format!(
        "must have at most {SUBDOMAIN_MAX} characters and match regex ^{SYSCTL_FMT}$"
    )]
}

/// An address in any notation Kubernetes accepts.
pub fn ip(value: &str) -> Vec<String> {
    if value.parse::<std::net::IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
}

/// `10.0.0.0/24`, `fd00::/64`.
pub fn cidr(value: &str) -> Vec<String> {
    let valid = value.split_once('/').is_some_and(|(address, bits)| {
        let most = match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.bytes().all(|byte| byte.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    });
    if valid {
        Vec::new()
    } else {
        vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refusals_read_as_kubernetes_writes_them() {
        let mut all = Vec::new();
        let mut add = |what: &str, value: &str, messages: Vec<String>| {
            all.push(format!("{what} {value:?}: {messages:?}"));
        };
        for value in ["web", "my-Name", "a.b", ""] {
            add("label", value, dns1123_label(value));
        }
        for value in ["a.b-c", "a..b", "-a"] {
            add("subdomain", value, dns1123_subdomain(value));
        }
        for value in ["a1", "1a"] {
            add("1035", value, dns1035_label(value));
        }
        for value in ["app", "example.com/app", "/app", "a/b/c", "App_", ""] {
            add("key", value, qualified_name(value));
        }
        for value in ["", "v-1", "-"] {
            add("value", value, label_value(value));
        }
        for value in ["a_b.c", "a b", "..", "..x"] {
            add("config key", value, config_key(value));
        }
        for value in ["http", "80", "a--b", "-a"] {
            add("port", value, port_name(value));
        }
        for value in ["A B", "", "a=b"] {
            add("env", value, env_var_name(value));
        }
        for value in ["a/b", "..", "a%"] {
            add("segment", value, path_segment(value));
        }
        expect![[r#"
            label "web": []
            label "my-Name": ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
            label "a.b": ["must not contain dots"]
            label "": ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
            subdomain "a.b-c": []
            subdomain "a..b": ["a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"]
            subdomain "-a": ["a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"]
            1035 "a1": []
            1035 "1a": ["a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"]
            key "app": []
            key "example.com/app": []
            key "/app": ["prefix part must be non-empty"]
            key "a/b/c": ["a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
            key "App_": ["name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"]
            key "": ["name part must be non-empty", "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"]
            value "": []
            value "v-1": []
            value "-": ["a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"]
            config key "a_b.c": []
            config key "a b": ["a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"]
            config key "..": ["must not be '..'"]
            config key "..x": ["must not start with '..'"]
            port "http": []
            port "80": ["must contain at least one letter (a-z)"]
            port "a--b": ["must not contain consecutive hyphens"]
            port "-a": ["must not begin or end with a hyphen"]
            env "A B": []
            env "": ["environment variable name must be non-empty"]
            env "a=b": ["a valid environment variable name must consist only of printable ASCII characters other than '='"]
            segment "a/b": ["may not contain '/'"]
            segment "..": ["may not be '..'"]
            segment "a%": ["may not contain '%'"]"#]]
        .assert_eq(&all.join("\n"));
    }

    #[test]
    fn a_generated_name_may_end_in_a_dash() {
        assert!(as_prefix("web-", dns1123_subdomain).is_empty());
        assert!(!as_prefix("Web-", dns1123_subdomain).is_empty());
        assert!(!as_prefix("-", dns1123_subdomain).is_empty());
    }

    #[test]
    fn addresses() {
        assert!(cidr("10.0.0.0/24").is_empty() && cidr("fd00::/64").is_empty());
        assert!(!cidr("10.0.0.0/33").is_empty() && !cidr("10.0.0.0").is_empty() && !cidr("10.0.0.0/+4").is_empty());
    }

    proptest! {
        #[test]
        fn labels_match_their_grammar(label in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?") {
            prop_assert!(dns1123_label(&label).is_empty());
            prop_assert!(dns1123_subdomain(&label).is_empty());
            prop_assert!(label_value(&label).is_empty());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let checks = [
                dns1123_label, dns1123_subdomain, dns1035_label, qualified_name, label_value, config_key,
                env_var_name, port_name, path_segment, sysctl, ip, cidr,
            ];
            for check in checks {
                let _ = check(&text);
                let _ = as_prefix(&text, check);
            }
        }
    }
}
