//! Answers every request with a greeting and writes one line about it to standard output.
//!
//! ```text
//! $ curl http://<pod IP>:8080/some/path
//! Hello from a wasm component!
//! host hello, path /some/path, request 1a2b3c4d
//! ```
//!
//! `GREETING` replaces the first line, `HOSTNAME` is the pod's name as Kubernetes sets it. `POST` answers with the
//! number of bytes it was sent, so that the whole of a request body has been read.

use wasip2::cli::{environment, stdout};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::{OutputStream, StreamError};
use wasip2::random::random::get_random_u64;

struct Hello;

wasip2::http::proxy::export!(Hello);

/// `wasi:io` promises to take at least this much in one blocking write.
const WRITE_MAX_BYTES: usize = 4096;

/// How much of a request body is asked for at a time.
const READ_MAX_BYTES: u64 = 64 * 1024;

impl Guest for Hello {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let method = request.method();
        let path = request.path_with_query().unwrap_or_default();
        let id = get_random_u64() as u32;

        let (status, text) = match method {
            Method::Get | Method::Head => (200, greeting(&path, id)),
            Method::Post | Method::Put => match body_length(&request) {
                Ok(length) => (200, format!("received {length} bytes\n")),
                Err(reason) => (400, format!("{reason}\n")),
            },
            _ => (405, "only GET, HEAD, POST and PUT\n".to_owned()),
        };
        log(&format!("{} {path} {status} request={id:08x}\n", name(&method)));
        let text = if matches!(method, Method::Head) {
            String::new()
        } else {
            text
        };
        respond(outparam, status, &text);
    }
}

fn greeting(path: &str, id: u32) -> String {
    let mut greeting = "Hello from a wasm component!".to_owned();
    let mut host = "unknown".to_owned();
    for (name, value) in environment::get_environment() {
        match name.as_str() {
            "GREETING" => greeting = value,
            "HOSTNAME" => host = value,
            _ => {}
        }
    }
    format!("{greeting}\nhost {host}, path {path}, request {id:08x}\n")
}

fn body_length(request: &IncomingRequest) -> Result<u64, &'static str> {
    let body = request.consume().map_err(|()| "the body cannot be read")?;
    let stream = body.stream().map_err(|()| "the body cannot be read")?;
    let mut length = 0;
    loop {
        match stream.blocking_read(READ_MAX_BYTES) {
            Ok(bytes) => length += bytes.len() as u64,
            Err(StreamError::Closed) => return Ok(length),
            Err(StreamError::LastOperationFailed(_)) => return Err("the body ended early"),
        }
    }
}

fn respond(outparam: ResponseOutparam, status: u16, text: &str) {
    let headers = Fields::new();
    let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(outparam, Ok(response));
    if let Ok(stream) = body.write() {
        write_all(&stream, text.as_bytes());
    }
    let _ = OutgoingBody::finish(body, None);
}

fn log(line: &str) {
    write_all(&stdout::get_stdout(), line.as_bytes());
}

/// A reader that went away is no reason to fail the request.
fn write_all(stream: &OutputStream, bytes: &[u8]) {
    for chunk in bytes.chunks(WRITE_MAX_BYTES) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
}

fn name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}
