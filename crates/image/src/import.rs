//! From archives into the store: OCI image layouts (directory or tar) and `docker save` archives (tar), compressed or not.
//!
//! An archive is read once, as a stream, so it may be a pipe: every file in it becomes a blob under its own hash, which is
//! exactly what blobs are, and the few JSON files are looked at afterwards. What turns out not to belong to an image is
//! garbage, and collected as such.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::config::ImageConfig;
use crate::content::Content;
use crate::form;
use crate::manifest::{
    Descriptor, Document, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, choose, null_is_default,
};
use crate::options::Limits;
use crate::pack::put_manifest_over;
use crate::store::{Inner, blocking};
use crate::unpack::{ArchiveFile, Compression, decompress, read_archive};
use crate::{Digest, Error, Image, Reference, Store};

const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
const DOCKER_INDEX: &str = "manifest.json";
/// Written by containerd and docker: the full name. The OCI annotation holds a full name or only a tag.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";
const MAX_INDEX_DEPTH: usize = 3;
const MAX_LINKS: usize = 8;

/// One image of a `docker save` archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Where the files of an archive are now.
enum Files {
    Directory(PathBuf),
    Archive {
        blobs: HashMap<PathBuf, (Digest, u64)>,
        links: HashMap<PathBuf, PathBuf>,
    },
}

impl Store {
    /// Imports every image of an OCI layout or docker archive at `path`. `tag` names the image where the archive holds one
    /// only; without it the archive's own names count.
    pub async fn import(&self, path: &Path, tag: Option<&str>) -> Result<Vec<Image>, Error> {
        let tag = tag.map(Reference::parse).transpose()?;
        let (store, path) = (self.clone(), path.to_path_buf());
        blocking(move || {
            if path.is_dir() {
                return store.inner.import(
                    &path.display().to_string(),
                    &Files::Directory(path.clone()),
                    tag.as_ref(),
                );
            }
            let file = File::open(&path).map_err(|source| Error::io("open", &path, source))?;
            store
                .inner
                .import_stream(&path.display().to_string(), file, tag.as_ref())
        })
        .await
    }

    /// The same from a stream, standard input for example.
    pub async fn import_from(&self, input: impl Read + Send + 'static, tag: Option<&str>) -> Result<Vec<Image>, Error> {
        let tag = tag.map(Reference::parse).transpose()?;
        let store = self.clone();
        blocking(move || store.inner.import_stream("standard input", input, tag.as_ref())).await
    }
}

impl Inner {
    fn import_stream(&self, what: &str, input: impl Read, tag: Option<&Reference>) -> Result<Vec<Image>, Error> {
        let _in_flight = self.in_flight()?;
        let files = Files::read(input, what, &self.content, &self.options.limits)?;
        self.import(what, &files, tag)
    }

    fn import(&self, what: &str, files: &Files, tag: Option<&Reference>) -> Result<Vec<Image>, Error> {
        let _in_flight = self.in_flight()?;
        let found = if files.has(INDEX) && files.has(LAYOUT) {
            self.import_layout(what, files, tag)?
        } else if files.has(DOCKER_INDEX) {
            self.import_docker(what, files, tag)?
        } else {
            let reason = "neither an OCI image layout (oci-layout, index.json) nor a docker archive (manifest.json)";
            return Err(Error::invalid(what, reason));
        };
        let single = found.len() == 1;
        if let (Some(tag), false) = (tag, single) {
            return Err(Error::invalid(
                what,
                format!("{} images cannot all be called {tag}", found.len()),
            ));
        }
        let mut images: Vec<Image> = Vec::new();
        for (manifest, names) in found {
            let names = tag.map_or(names, |tag| vec![tag.clone()]);
            if names.is_empty() {
                return Err(Error::invalid(
                    what,
                    "the archive does not say what the image is called; give it a tag",
                ));
            }
            for name in names {
                let image = self.record(&manifest, Some(&name), None)?;
                images.retain(|other| other.manifest != image.manifest);
                images.push(image);
            }
        }
        Ok(images)
    }

    fn import_layout(
        &self,
        what: &str,
        files: &Files,
        tag: Option<&Reference>,
    ) -> Result<Vec<(Digest, Vec<Reference>)>, Error> {
        let limits = &self.options.limits;
        let index = files.read_file(INDEX, &self.content, limits, what)?;
        let Document::Index(entries) = Document::parse(&index, None, &format!("{what}: {INDEX}"))? else {
            return Err(Error::invalid(what, "index.json is not an index"));
        };
        // Entries for several platforms without names are one image, as in a registry's index.
        let one = if names_of(&entries).is_empty() && entries.len() > 1 {
            vec![choose(&entries, &self.options.platform, what)?.clone()]
        } else {
            entries
        };
        let mut found: Vec<(Digest, Vec<Reference>)> = Vec::new();
        for entry in &one {
            let digest = self.import_descriptor(what, files, entry)?;
            let mut names = names_of(std::slice::from_ref(entry));
            if let (true, Some(tag)) = (names.is_empty(), tag) {
                names.push(tag.clone());
            }
            match found.iter_mut().find(|(other, _)| *other == digest) {
                Some((_, all)) => all.extend(names),
                None => found.push((digest, names)),
            }
        }
        Ok(found)
    }

    fn import_descriptor(&self, what: &str, files: &Files, entry: &Descriptor) -> Result<Digest, Error> {
        let limits = &self.options.limits;
        let mut digest = entry.digest.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            let bytes = files.read_file(&blob_path(&digest), &self.content, limits, what)?;
            let actual = Digest::of(&bytes);
            if actual != digest {
                let (expected, actual) = (digest.to_string(), actual.to_string());
                return Err(Error::DigestMismatch {
                    what: format!("{what}: manifest"),
                    expected,
                    actual,
                });
            }
            match Document::parse(&bytes, Some(&entry.media_type), what)? {
                Document::Index(manifests) => digest = choose(&manifests, &self.options.platform, what)?.digest.clone(),
                Document::Manifest(manifest) => {
                    manifest.check(what, limits)?;
                    form::check_media_types(what, &manifest)?;
                    for blob in manifest.blobs() {
                        files.ingest(&blob_path(&blob.digest), &self.content, Some(blob), what)?;
                    }
                    self.judge(what, &manifest)?;
                    return self.content.put(&bytes);
                }
            }
        }
        Err(Error::invalid(what, "indexes are nested too deeply"))
    }

    /// Refuses what could not run here, before it gets a name.
    fn judge(&self, what: &str, manifest: &Manifest) -> Result<(), Error> {
        let config = self.config(&manifest.config.digest, manifest)?;
        form::detect(what, manifest, &config, &self.options.platform).map(drop)
    }

    fn import_docker(
        &self,
        what: &str,
        files: &Files,
        tag: Option<&Reference>,
    ) -> Result<Vec<(Digest, Vec<Reference>)>, Error> {
        let limits = &self.options.limits;
        let json = |source| Error::Json {
            what: format!("{what}: {DOCKER_INDEX}"),
            source,
        };
        let index = files.read_file(DOCKER_INDEX, &self.content, limits, what)?;
        let saved: Vec<Saved> = serde_json::from_slice(&index).map_err(json)?;
        let mut found = Vec::new();
        for image in saved {
            let config = files.ingest(&image.config, &self.content, None, what)?;
            let parsed = ImageConfig::parse(&self.content.read(&config.0, limits.document_bytes)?, what)?;
            if parsed.diff_ids().len() != image.layers.len() {
                return Err(Error::invalid(
                    what,
                    "the number of layers differs between manifest.json and the config",
                ));
            }
            let mut layers = Vec::new();
            for path in &image.layers {
                let layer = files.ingest(path, &self.content, None, what)?;
                layers.push((layer_media_type(&self.content.path(&layer.0))?, layer));
            }
            let digest = put_manifest_over(&self.content, &config, OCI_CONFIG, &layers)?;
            self.judge(what, &self.manifest(&digest)?.0)?;
            let names = match tag {
                Some(tag) => vec![tag.clone()],
                None => image
                    .repo_tags
                    .iter()
                    .map(|name| Reference::parse(name))
                    .collect::<Result<_, _>>()?,
            };
            found.push((digest, names));
        }
        Ok(found)
    }
}

impl Files {
    /// Reads an archive to its end, every file into a blob.
    fn read(input: impl Read, what: &str, content: &Content, limits: &Limits) -> Result<Files, Error> {
        let archive = decompress(input).map_err(|source| Error::io("read", what, source))?;
        let (mut blobs, mut links) = (HashMap::new(), HashMap::new());
        let mut left = limits.image_bytes;
        read_archive(archive, what, limits, |file| {
            match file {
                ArchiveFile::Link { path, target } => {
                    links.insert(path, target);
                }
                ArchiveFile::Regular { path, size, data } => {
                    left = left.checked_sub(size).ok_or_else(|| Error::TooLarge {
                        what: what.to_owned(),
                        actual: limits.image_bytes.saturating_add(1),
                        limit: limits.image_bytes,
                    })?;
                    let mut writer = content.writer()?;
                    let mut buffer = vec![0; 128 * 1024];
                    loop {
                        let read = data(&mut buffer)?;
                        if read == 0 {
                            break;
                        }
                        writer
                            .write_all(&buffer[..read])
                            .map_err(|source| Error::io("write", content.temporary_dir(), source))?;
                    }
                    blobs.insert(path, writer.commit(what, None)?);
                }
            }
            Ok(())
        })?;
        Ok(Files::Archive { blobs, links })
    }

    fn has(&self, path: &str) -> bool {
        match self {
            Files::Directory(directory) => directory.join(path).is_file(),
            Files::Archive { blobs, .. } => blobs.contains_key(Path::new(path)),
        }
    }

    fn read_file(&self, path: &str, content: &Content, limits: &Limits, what: &str) -> Result<Vec<u8>, Error> {
        match self {
            Files::Archive { .. } => content.read(&self.find(path, what)?.0, limits.document_bytes),
            Files::Directory(directory) => {
                let path = directory.join(path);
                let mut bytes = Vec::new();
                File::open(&path)
                    .and_then(|file| file.take(limits.document_bytes).read_to_end(&mut bytes))
                    .map_err(|source| Error::io("read", &path, source))?;
                Ok(bytes)
            }
        }
    }

    /// Makes a file of the archive a blob, and checks it against its descriptor.
    fn ingest(
        &self,
        path: &str,
        content: &Content,
        blob: Option<&Descriptor>,
        what: &str,
    ) -> Result<(Digest, u64), Error> {
        let (digest, size) = match self {
            Files::Archive { .. } => self.find(path, what)?,
            Files::Directory(_) if blob.is_some_and(|blob| content.has(&blob.digest, blob.size)) => {
                return self.known(blob);
            }
            Files::Directory(directory) => {
                let relative = Path::new(path);
                if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
                    return Err(Error::invalid(what, format!("{path:?} leads out of the directory")));
                }
                let source = directory.join(relative);
                let mut writer = content.writer()?;
                let mut file = File::open(&source).map_err(|error| Error::io("open", &source, error))?;
                io::copy(&mut file, &mut writer).map_err(|error| Error::io("copy", &source, error))?;
                writer.commit(&format!("{what}: {path}"), blob.map(|blob| &blob.digest))?
            }
        };
        match blob {
            Some(blob) if blob.digest != digest => {
                let (expected, actual) = (blob.digest.to_string(), digest.to_string());
                Err(Error::DigestMismatch {
                    what: format!("{what}: {path}"),
                    expected,
                    actual,
                })
            }
            Some(blob) if blob.size != size => Err(Error::SizeMismatch {
                what: format!("{what}: {path}"),
                expected: blob.size,
                actual: size,
            }),
            _ => Ok((digest, size)),
        }
    }

    fn known(&self, blob: Option<&Descriptor>) -> Result<(Digest, u64), Error> {
        let blob = blob.ok_or_else(|| Error::invalid("import", "a blob without a descriptor"))?;
        Ok((blob.digest.clone(), blob.size))
    }

    /// Looks a path of the archive up, through symlinks between its files: old docker archives share layers that way.
    fn find(&self, path: &str, what: &str) -> Result<(Digest, u64), Error> {
        let Files::Archive { blobs, links } = self else {
            return Err(Error::invalid(what, "not an archive"));
        };
        let mut path = clean(Path::new(path));
        for _ in 0..MAX_LINKS {
            if let Some(blob) = blobs.get(&path) {
                return Ok(blob.clone());
            }
            let Some(target) = links.get(&path) else { break };
            path = clean(&path.parent().unwrap_or(Path::new("")).join(target));
        }
        Err(Error::invalid(
            what,
            format!("{} is missing from the archive", path.display()),
        ))
    }
}

/// Resolves `.` and `..` of a path inside an archive; it only ever is a key.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => {
                result.pop();
            }
            _ => {}
        }
    }
    result
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Full names among the annotations; a bare tag names nothing.
fn names_of(entries: &[Descriptor]) -> Vec<Reference> {
    let full = |name: &&String| name.contains(['/', ':']);
    let annotated = |entry: &Descriptor| {
        let of = |key: &str| {
            entry
                .annotations
                .get(key)
                .filter(full)
                .and_then(|name| Reference::parse(name).ok())
        };
        of(NAME_ANNOTATION).or_else(|| of(REF_ANNOTATION))
    };
    entries.iter().filter_map(annotated).collect()
}

/// The archive does not say how its layers are compressed, so we do, from their first bytes.
fn layer_media_type(blob: &Path) -> Result<&'static str, Error> {
    let mut start = [0; 4];
    let fail = |source| Error::io("read", blob, source);
    let mut file = fs::File::open(blob).map_err(fail)?;
    let read = file.read(&mut start).map_err(fail)?;
    Ok(match Compression::of(&start[..read]) {
        Compression::None => OCI_LAYER,
        Compression::Gzip => OCI_LAYER_GZIP,
        Compression::Zstd => OCI_LAYER_ZSTD,
    })
}
