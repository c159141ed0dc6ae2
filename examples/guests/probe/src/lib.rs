//! A `wasi:http` service that does what its path says, good or bad, for tests of the runtime around it.

use std::fmt::Write as _;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

struct Probe;

wasip2::http::proxy::export!(Probe);

impl Guest for Probe {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (action, argument) = path[1..].split_once('?').unwrap_or((&path[1..], ""));
        let text = match action {
            // Computes without end.
            "spin" => loop {
                std::hint::black_box(());
            },
            "trap" => panic!("as asked"),
            "silent" => return,
            // Writes this many KiB.
            "stream" => "x".repeat(1024 * argument.parse::<usize>().unwrap_or(1)),
            // Takes this many MiB.
            "memory" => format!("{}\n", vec![1_u8; argument.parse::<usize>().unwrap_or(1) << 20].len()),
            // Reads a file of the first preopened directory.
            "file" => file(argument).unwrap_or_else(|error| error),
            // Gets http://<argument>.
            "fetch" => fetch(argument).unwrap_or_else(|error| error),
            _ => "ok\n".to_owned(),
        };
        respond(outparam, &text);
    }
}

fn respond(outparam: ResponseOutparam, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(outparam, Ok(response));
    if let Ok(stream) = body.write() {
        for chunk in text.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

fn file(path: &str) -> Result<String, String> {
    let (directory, _) = get_directories().into_iter().next().ok_or("no directory")?;
    let file = directory
        .open_at(PathFlags::empty(), path, OpenFlags::empty(), DescriptorFlags::READ)
        .map_err(|code| format!("{code:?}"))?;
    let (bytes, _) = file.read(4096, 0).map_err(|code| format!("{code:?}"))?;
    String::from_utf8(bytes).map_err(|_| "not text".to_owned())
}

fn fetch(address: &str) -> Result<String, String> {
    let (authority, path) = address.split_once('/').unwrap_or((address, ""));
    let request = OutgoingRequest::new(Fields::new());
    let set = |()| "the request is refused".to_owned();
    request.set_scheme(Some(&Scheme::Http)).map_err(set)?;
    request.set_authority(Some(authority)).map_err(set)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(set)?;
    let coming = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    coming.subscribe().block();
    let response = coming
        .get()
        .ok_or("not there")?
        .map_err(|()| "taken")?
        .map_err(|code| format!("{code:?}"))?;
    let body = response.consume().map_err(|()| "no body")?;
    let stream = body.stream().map_err(|()| "no body")?;
    let mut text = String::new();
    let _ = write!(text, "{} ", response.status());
    loop {
        match stream.blocking_read(4096) {
            Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Err(StreamError::Closed) => return Ok(text),
            Err(error) => return Err(format!("{error:?}")),
        }
    }
}
