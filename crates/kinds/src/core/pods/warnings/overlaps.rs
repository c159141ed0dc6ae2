//! Files of one volume that hide each other: two items with the same path, or one whose path is a directory of another's.

use catamaran_api::field::quote;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};
use std::fmt;

/// A file, and what it comes from if that is worth saying.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &str, source: &str) -> Self {
        File {
            path: path.trim_end_matches('/').to_owned(),
            source: source.to_owned(),
        }
    }

    fn overlaps(&self, other: &File) -> bool {
        if self.path.is_empty() || other.path.is_empty() {
            return false;
        }
        let (own, others) = (format!("{}/", self.path), format!("{}/", other.path));
        self == other || own.starts_with(&others) || others.starts_with(&own)
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.path))?;
        if self.source.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.source)
    }
}

pub(super) fn volumes(volumes: &[Volume], warnings: &mut Vec<String>) {
    for volume in volumes {
        let (what, files) = if let Some(source) = &volume.config_map {
            let what = format!("ConfigMap {}", quote(&source.name));
            (what, keys(source.items.as_deref(), ""))
        } else if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            (format!("Secret {}", quote(name)), keys(source.items.as_deref(), ""))
        } else if let Some(source) = &volume.downward_api {
            ("DownwardAPI".to_owned(), fields(source.items.as_deref(), ""))
        } else if let Some(source) = &volume.projected {
            let mut files = Vec::new();
            for projection in source.sources.iter().flatten() {
                if *projection == VolumeProjection::default() {
                    let name = quote(&volume.name);
                    warnings.push(format!("volume {name} (Projected) has no sources provided"));
                }
                files.extend(projected(projection));
            }
            ("Projected".to_owned(), files)
        } else {
            continue;
        };
        for (index, file) in files.iter().enumerate() {
            for other in files[..index].iter().filter(|other| file.overlaps(other)) {
                let name = quote(&volume.name);
                warnings.push(format!(
                    "volume {name} ({what}): overlapping paths: {file} with {other}"
                ));
            }
        }
    }
}

fn keys(items: Option<&[KeyToPath]>, source: &str) -> Vec<File> {
    let items = items.unwrap_or_default().iter();
    items.map(|item| File::new(&item.path, source)).collect()
}

fn fields(items: Option<&[DownwardAPIVolumeFile]>, source: &str) -> Vec<File> {
    let items = items.unwrap_or_default().iter();
    items.map(|item| File::new(&item.path, source)).collect()
}

fn projected(source: &VolumeProjection) -> Vec<File> {
    if let Some(source) = &source.config_map {
        keys(source.items.as_deref(), &format!("ConfigMap {}", quote(&source.name)))
    } else if let Some(source) = &source.secret {
        keys(source.items.as_deref(), &format!("Secret {}", quote(&source.name)))
    } else if let Some(source) = &source.downward_api {
        fields(source.items.as_deref(), "DownwardAPI")
    } else if let Some(source) = &source.service_account_token {
        vec![File::new(&source.path, "ServiceAccountToken")]
    } else if let Some(source) = &source.cluster_trust_bundle {
        let name = source.name.as_deref().or(source.signer_name.as_deref());
        let what = format!("ClusterTrustBundle {}", quote(name.unwrap_or_default()));
        vec![File::new(&source.path, &what)]
    } else if let Some(source) = &source.pod_certificate {
        let files = [
            (&source.certificate_chain_path, "PodCertificate chain"),
            (&source.key_path, "PodCertificate key"),
            (&source.credential_bundle_path, "PodCertificate credential bundle"),
        ];
        let files = files
            .into_iter()
            .filter_map(|(path, what)| Some((path.as_deref()?, what)));
        files.map(|(path, what)| File::new(path, what)).collect()
    } else {
        Vec::new()
    }
}
