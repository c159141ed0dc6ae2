//! Manifests: where `-f` finds them and what is in them.

use anyhow::{Context, Result, bail};
use catamaran_api::yaml;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// `-f FILE`, as several verbs take it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct FileArgs {
    /// Manifest file or directory; `-` is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Go through directories recursively
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

impl FileArgs {
    /// Every object of every file, in order.
    pub(crate) fn objects(&self) -> Result<Vec<Value>> {
        let mut objects = Vec::new();
        for path in &self.files {
            if path.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .context("cannot read standard input")?;
                objects.extend(parse(&text, "standard input")?);
                continue;
            }
            if path
                .to_str()
                .is_some_and(|path| path.starts_with("http://") || path.starts_with("https://"))
            {
                bail!(
                    "manifests are not fetched from the network: download it, look at it, and name the file ({})",
                    path.display()
                );
            }
            for file in self.manifests_at(path)? {
                let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                objects.extend(parse(&text, &file.display().to_string())?);
            }
        }
        Ok(objects)
    }

    /// A file itself; of a directory the `.yaml`, `.yml` and `.json` files in the order of their names.
    fn manifests_at(&self, path: &Path) -> Result<Vec<PathBuf>> {
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut entries = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        entries.sort();
        let mut files = Vec::new();
        for entry in entries {
            let extension = entry.extension().and_then(|extension| extension.to_str());
            if entry.is_dir() {
                if self.recursive {
                    files.extend(self.manifests_at(&entry)?);
                }
            } else if matches!(extension, Some("yaml" | "yml" | "json")) {
                files.push(entry);
            }
        }
        Ok(files)
    }
}

/// The objects of a YAML or JSON text, `List`s opened, empty documents skipped. `source` names the text in errors.
///
/// # Errors
/// The first document that is no YAML or no Kubernetes object.
pub(crate) fn parse(text: &str, source: &str) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for (index, document) in documents(text).into_iter().enumerate() {
        let place = || format!("{source}, document {}", index + 1);
        let value = document.with_context(place)?;
        if value.is_null() {
            continue;
        }
        match value.get("items").and_then(Value::as_array) {
            Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                objects.extend(items.iter().cloned());
            }
            _ => objects.push(value),
        }
        for object in &objects {
            for field in ["apiVersion", "kind"] {
                if object[field].as_str().is_none_or(str::is_empty) {
                    bail!("{}: {field} not set", place());
                }
            }
        }
    }
    Ok(objects)
}

/// JSON is nearly YAML, but not where strings have surrogate pairs; so what looks like JSON is tried as that first.
fn documents(text: &str) -> Vec<Result<Value>> {
    let mut no_json = None;
    if text.trim_start().starts_with('{') {
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
        match values {
            Ok(values) => return values.into_iter().map(Ok).collect(),
            Err(error) => no_json = Some(error),
        }
    }
    let documents = yaml::documents(text).map(|document| document.map(|body| body.value));
    documents
        .map(|document| match (document, no_json.take()) {
            (Ok(value), _) => Ok(value),
            // A key in quotes right after the brace: the author meant JSON.
            (Err(_), Some(error)) if text.trim_start()[1..].trim_start().starts_with('"') => {
                Err(error).context("not valid JSON")
            }
            (Err(error), _) => Err(error).context("not valid YAML"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_open_and_empty_documents_vanish() {
        let text = "---\n---\napiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret}\n";
        let kinds: Vec<String> = parse(text, "x")
            .expect("objects")
            .iter()
            .map(|object| object["kind"].as_str().unwrap_or("").to_owned())
            .collect();
        assert_eq!(kinds, ["Pod", "Secret"]);
    }

    #[test]
    fn errors_name_the_file_and_the_document() {
        let error = parse("apiVersion: v1\nkind: Pod\n---\nkind: Pod\n", "pod.yaml").expect_err("no apiVersion");
        assert_eq!(error.to_string(), "pod.yaml, document 2: apiVersion not set");
        let error = parse("a: [", "pod.yaml").expect_err("no YAML");
        assert!(format!("{error:#}").contains(" at line "), "{error:#}");
        assert!(
            format!("{error:#}").starts_with("pod.yaml, document 1: not valid YAML"),
            "{error:#}"
        );
        let error = parse("{\"apiVersion\": \"v1\", \"kind\": ", "pod.json").expect_err("no JSON");
        assert!(
            format!("{error:#}").starts_with("pod.json, document 1: not valid JSON: EOF while parsing"),
            "{error:#}"
        );
    }

    #[test]
    fn scalars_are_those_of_kubernetes() {
        let text = "apiVersion: v1\nkind: Secret\nmode: 0400\nname: \"0400\"\nflag: on\n";
        let objects = parse(text, "x").expect("objects");
        assert_eq!(objects[0]["mode"], 256);
        assert_eq!(objects[0]["name"], "0400");
        assert_eq!(objects[0]["flag"], true);
        let json = r#"{"apiVersion": "v1", "kind": "Pod", "x": "\ud83d\ude00"} {"apiVersion": "v1", "kind": "Pod"}"#;
        assert_eq!(parse(json, "x").expect("objects").len(), 2);
        assert_eq!(parse("{apiVersion: v1, kind: Pod}", "x").expect("objects").len(), 1);
    }
}
