//! The last touch to an answer: errors in the language the client asked for, and indented JSON for people.
//!
//! Errors come from everywhere, also from where nobody looked at what the client reads; so they are made as JSON, marked, and
//! translated here.

use super::error::Carried;
use super::negotiate::{self, Form, Language, Offer, Shape};
use super::render;
use super::stack::Next;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Marks an answer in JSON that people may read.
#[derive(Clone, Copy)]
pub(super) struct Indentable;

pub(super) async fn present(request: Request, next: impl Next) -> Response {
    let indent = negotiate::wants_indentation(request.uri(), request.headers());
    let accept = request.headers().get(header::ACCEPT).cloned();
    let mut response = next.run(request).await;
    if let Some(Carried(status)) = response.extensions_mut().remove() {
        return failure(response, &status, accept, indent);
    }
    if indent && response.extensions_mut().remove::<Indentable>().is_some() {
        return response.map(|body| Body::new(Indented::new(body)));
    }
    response
}

fn failure(
    mut response: Response,
    status: &catamaran_api::Status,
    accept: Option<HeaderValue>,
    indent: bool,
) -> Response {
    let mut headers = HeaderMap::new();
    if let Some(accept) = accept {
        headers.insert(header::ACCEPT, accept);
    }
    // Whoever reads none of our languages gets JSON to look at.
    let language = negotiate::accepted(&headers, Offer::PLAIN).map(|form| form.language);
    match language {
        Ok(Language::Json) if !indent => response,
        Ok(Language::Json) | Err(_) => response.map(|body| Body::new(Indented::new(body))),
        Ok(language) => {
            let Ok(bytes) = render::translated(language, status.to_vec().into()) else {
                return response;
            };
            let form = Form {
                language,
                shape: Shape::Whole,
            };
            *response.body_mut() = Body::from(bytes);
            let content_type = HeaderValue::from_static(form.content_type());
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            response
        }
    }
}

/// JSON, indented while it passes: two spaces a level, as Go does it.
struct Indented {
    inner: Body,
    state: Indenter,
}

#[derive(Default)]
struct Indenter {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// An object or list was opened, and what follows is not known yet.
    opened: bool,
}

impl Indenter {
    fn push(&mut self, json: &[u8], out: &mut BytesMut) {
        for &byte in json {
            if self.in_string {
                out.extend_from_slice(&[byte]);
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            if byte.is_ascii_whitespace() {
                continue;
            }
            let closes = matches!(byte, b'}' | b']');
            if self.opened && !closes {
                self.line(out);
            }
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !self.opened {
                        self.line(out);
                    }
                }
                b'"' => self.in_string = true,
                _ => {}
            }
            self.opened = matches!(byte, b'{' | b'[');
            out.extend_from_slice(&[byte]);
            match byte {
                b',' => self.line(out),
                b':' => out.extend_from_slice(b" "),
                _ => {}
            }
        }
    }

    fn line(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"\n");
        for _ in 0..self.depth {
            out.extend_from_slice(b"  ");
        }
    }
}

impl Indented {
    fn new(inner: Body) -> Self {
        Indented {
            inner,
            state: Indenter::default(),
        }
    }
}

impl http_body::Body for Indented {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        Poll::Ready(match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let mut out = BytesMut::with_capacity(data.len() * 2);
                    this.state.push(&data, &mut out);
                    Some(Ok(Frame::data(out.freeze())))
                }
                Err(other) => Some(Ok(other)),
            },
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn indented(json: &[u8], cut: usize) -> String {
        let (mut state, mut out) = (Indenter::default(), BytesMut::new());
        let (before, after) = json.split_at(cut);
        state.push(before, &mut out);
        state.push(after, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn as_go_indents() {
        let value = json!({ "a": [], "b": {}, "c": [1, { "d": "x\"{,}\\" }], "e": null });
        let expected = "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": \"x\\\"{,}\\\\\"\n    }\n  ],\n  \"e\": null\n}";
        assert_eq!(indented(format!("{value}\n").as_bytes(), 20), expected);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,8}|[\"\\\\{},:\\[\\] ]{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_serde_would_write(value in values(), cut in any::<prop::sample::Index>()) {
            let json = value.to_string();
            let cut = cut.index(json.len() + 1);
            prop_assert_eq!(indented(json.as_bytes(), cut), serde_json::to_string_pretty(&value).unwrap());
        }
    }
}
