//! What the name of an image says about how it is pulled.
//!
//! The policy follows from the tag, and a name that is none has no tag:
//! <https://github.com/distribution/reference> gives the grammar.

const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// Always, where the name may mean another image tomorrow.
pub(super) fn pull_policy(image: &str) -> &'static str {
    if tag(image) == Some("latest") {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// The tag of an image's name, `latest` for one without tag and digest; `None` if there is none, or the name is none.
fn tag(image: &str) -> Option<&str> {
    if image.len() == 64 && image.bytes().all(is_lower_hex) {
        return None;
    }
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let (domain, path) = name
        .split_once('/')
        .filter(|(first, _)| is_domain(first))
        .unwrap_or(("docker.io", name));
    let length = match domain {
        "docker.io" if !path.contains('/') => "docker.io/library/".len() + path.len(),
        _ => domain.len() + 1 + path.len(),
    };
    let good = valid_domain(domain)
        && length <= LONGEST_NAME
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    match (tag, digest) {
        _ if !good => None,
        (None, None) => Some("latest"),
        (tag, _) => tag,
    }
}

/// Does the first part of a name say where the image is, rather than belong to its path?
fn is_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn valid_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let good_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'),
        None => host.split('.').all(is_label),
    };
    good_host && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Like a DNS label, of any length and in any case.
fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    label.bytes().all(inner) && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
}

/// Lower case letters and digits, with a dot, one or two underscores or any number of dashes between them.
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = component.bytes().next().is_some_and(is_word) && component.bytes().last().is_some_and(is_word);
    let separator = |bytes: &[u8]| matches!(bytes, b"" | b"." | b"_" | b"__") || bytes.iter().all(|byte| *byte == b'-');
    edges && component.as_bytes().split(|byte| is_word(*byte)).all(separator)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= LONGEST_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// `sha256:…`, of the length that belongs to the algorithm.
fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hash)) = digest.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hash.len() == length && hash.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        let hash = "0123456789abcdef".repeat(4);
        for (image, expected) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("[fd00::1]:5000/nginx", "Always"),
            ("Registry/nginx", "Always"),
            ("a__b/c--d.e", "Always"),
            (&format!("nginx@sha256:{hash}"), "IfNotPresent"),
            (&format!("nginx:latest@sha256:{hash}"), "Always"),
            // None of these is a name.
            ("", "IfNotPresent"),
            ("Nginx", "IfNotPresent"),
            ("a___b", "IfNotPresent"),
            ("a/-b", "IfNotPresent"),
            ("${IMAGE}", "IfNotPresent"),
            ("nginx:latest@sha256:abc", "IfNotPresent"),
            ("registry:x/nginx", "IfNotPresent"),
            (&hash, "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }
}
