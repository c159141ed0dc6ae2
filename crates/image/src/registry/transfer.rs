//! Blobs, down and up.

use std::io::Write as _;
use std::path::Path;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::{DIGEST_HEADER, Session};
use crate::content::Writer;
use crate::manifest::Descriptor;
use crate::{Digest, Error};

/// How a download ended.
enum Ended {
    Complete,
    /// Broken off: worth another try from where it stands.
    Broken(Option<Error>),
}

impl Session<'_> {
    /// Downloads a blob into `writer`, resuming where a connection breaks off. The caller verifies the digest.
    pub(crate) async fn download(&self, blob: &Descriptor, writer: &mut Writer) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            let before = writer.size();
            match self.download_some(blob, writer).await? {
                Ended::Complete => return Ok(()),
                Ended::Broken(error) => {
                    if writer.size() > before {
                        attempt = 1;
                    } else if attempt >= self.client.options.attempts {
                        let size = || {
                            let (expected, actual) = (blob.size, writer.size());
                            Error::SizeMismatch {
                                what: self.named(blob),
                                expected,
                                actual,
                            }
                        };
                        return Err(error.unwrap_or_else(size));
                    }
                }
            }
            tokio::time::sleep(self.delay(attempt)).await;
            attempt += 1;
        }
    }

    async fn download_some(&self, blob: &Descriptor, writer: &mut Writer) -> Result<Ended, Error> {
        let url = self.url(&format!("blobs/{}", blob.digest));
        let start = writer.size();
        let range = format!("bytes={start}-");
        let response = self
            .send(Method::GET, &url, |request| {
                if start > 0 {
                    request.header(RANGE, &range)
                } else {
                    request
                }
            })
            .await?;
        let unsatisfiable = response.status() == StatusCode::RANGE_NOT_SATISFIABLE;
        if start > 0 && (unsatisfiable || !continues(&response, start)) {
            writer
                .restart()
                .map_err(|source| Error::io("restart", Path::new("download"), source))?;
            if unsatisfiable {
                return Ok(Ended::Broken(None));
            }
        }
        let mut response = match self.success(response).await {
            Err(Error::NotFound { .. }) => return Err(Error::NotFound { what: self.named(blob) }),
            response => response?,
        };
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    writer
                        .write_all(&chunk)
                        .map_err(|source| Error::io("write", Path::new("download"), source))?;
                    if writer.size() > blob.size {
                        let (expected, actual) = (blob.size, writer.size());
                        return Err(Error::SizeMismatch {
                            what: self.named(blob),
                            expected,
                            actual,
                        });
                    }
                }
                Ok(None) if writer.size() == blob.size => return Ok(Ended::Complete),
                Ok(None) => return Ok(Ended::Broken(None)),
                Err(error) => return Ok(Ended::Broken(Some(self.network(error)))),
            }
        }
    }

    fn named(&self, blob: &Descriptor) -> String {
        format!("{}: blob {}", self.what, blob.digest)
    }

    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, blob: &Descriptor) -> Result<bool, Error> {
        let url = self.url(&format!("blobs/{}", blob.digest));
        let response = self.send(Method::HEAD, &url, |request| request).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            _ => self.success(response).await.map(|_| true),
        }
    }

    /// Uploads a blob in one piece; `from` is a repository of the same registry that may have it already.
    pub(crate) async fn upload(&self, blob: &Descriptor, file: &Path, from: Option<&str>) -> Result<(), Error> {
        let mount = from
            .map(|from| format!("?mount={}&from={from}", blob.digest))
            .unwrap_or_default();
        let url = self.url(&format!("blobs/uploads/{mount}"));
        let response = self
            .send(Method::POST, &url, |request| request.header(CONTENT_LENGTH, 0))
            .await?;
        let response = self.success(response).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(());
        }
        let location = self.location(&response)?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", blob.digest);
        let open = || {
            std::fs::File::open(file)
                .map(tokio::fs::File::from_std)
                .map_err(|source| Error::io("open", file, source))
        };
        open()?;
        let response = self
            .send(Method::PUT, &url, |request| {
                let request = request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, blob.size);
                match open() {
                    Ok(file) => request.body(file),
                    Err(_) => request,
                }
            })
            .await?;
        let response = self.success(response).await?;
        self.check_digest(&response, &blob.digest)
    }

    /// Uploads a manifest under a tag or digest.
    pub(crate) async fn put_manifest(&self, selector: &str, media_type: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let digest = Digest::of(&bytes);
        let bytes = bytes::Bytes::from(bytes);
        let url = self.url(&format!("manifests/{selector}"));
        let response = self
            .send(Method::PUT, &url, |request| {
                request.header(CONTENT_TYPE, media_type).body(bytes.clone())
            })
            .await?;
        let response = self.success(response).await?;
        self.check_digest(&response, &digest)
    }

    /// What the registry says it stored must be what we sent.
    fn check_digest(&self, response: &Response, expected: &Digest) -> Result<(), Error> {
        let stored = response
            .headers()
            .get(DIGEST_HEADER)
            .and_then(|value| value.to_str().ok());
        match stored {
            Some(stored) if stored.starts_with("sha256:") && stored != expected.as_str() => {
                Err(Error::DigestMismatch {
                    what: format!("{}: stored by registry {}", self.what, self.registry),
                    expected: expected.to_string(),
                    actual: stored.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    fn location(&self, response: &Response) -> Result<String, Error> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let joined = location.and_then(|location| response.url().join(location).ok());
        joined.map(String::from).ok_or_else(|| {
            let reason = format!("registry {} accepts an upload without saying where to", self.registry);
            Error::invalid(self.what.clone(), reason)
        })
    }
}

/// Whether an answer to a range request goes on at `start`.
fn continues(response: &Response, start: u64) -> bool {
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| {
            range
                .strip_prefix("bytes ")
                .is_some_and(|range| range.starts_with(&format!("{start}-")))
        })
}
