//! gzip for long answers, where the client says it reads it: as Kubernetes does, from 128 kB on, quickly rather than well.
//! Streams that have no end (watches, logs) are never compressed, as their events would wait for each other.

use super::stack::Next;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{Buf as _, Bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Shorter answers are sent as they are.
const THRESHOLD: u64 = 128 << 10;

/// Marks an answer that may be compressed; about how long it is.
#[derive(Clone, Copy)]
pub(super) struct Compressible(pub(super) u64);

pub(super) async fn compress(request: Request, next: impl Next) -> Response {
    let wanted = accepts_gzip(request.headers());
    let mut response = next.run(request).await;
    let long = response
        .extensions_mut()
        .remove::<Compressible>()
        .is_some_and(|Compressible(length)| length > THRESHOLD);
    if !(wanted && long) || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response.map(|body| Body::new(Gzipped::new(body)))
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
            name.trim().eq_ignore_ascii_case("gzip")
                && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
        })
}

struct Gzipped {
    inner: Body,
    /// `None` once the end was written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Gzipped {
    fn new(inner: Body) -> Self {
        Gzipped {
            inner,
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }

    /// What the compressor has ready.
    fn take(encoder: &mut GzEncoder<Vec<u8>>) -> Bytes {
        Bytes::from(std::mem::take(encoder.get_mut()))
    }
}

impl http_body::Body for Gzipped {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            let this = &mut *self;
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(None);
            };
            match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Err(error) = encoder.write_all(data.chunk()) {
                        return Poll::Ready(Some(Err(axum::Error::new(error))));
                    }
                    let ready = Self::take(encoder);
                    if !ready.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(ready))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let Some(encoder) = this.encoder.take() else {
                        return Poll::Ready(None);
                    };
                    return Poll::Ready(Some(match encoder.finish() {
                        Ok(rest) => Ok(Frame::data(rest.into())),
                        Err(error) => Err(axum::Error::new(error)),
                    }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_asked_for_in_many_ways() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("identity", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
    }
}
