//! A service of WASI 0.3: an asynchronous handler that answers while its response's body is still being written.
//!
//! `wit/` (not in the repository) holds the interfaces of WASI 0.3.0, with `wasi:http/service` included in the world
//! `wasmtime:wasi-http/bindings`: the directory `src/p3/wit` of the crate `wasmtime-wasi-http` 48.

wit_bindgen::generate!({ path: "wit", world: "wasmtime:wasi-http/bindings", generate_all });

use exports::wasi::http::handler::Guest;
use wasi::http::types::{ErrorCode, Fields, Request, Response};

struct Service;

export!(Service);

impl Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        if path == "/trap" {
            panic!("as asked");
        }
        let (mut body, reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers_reader);
        wit_bindgen::spawn_local(async move {
            body.write_all(format!("Hello from WASI 0.3, path {path}\n").into_bytes())
                .await;
            drop(body);
            let _ = trailers.write(Ok(None)).await;
        });
        Ok(response)
    }
}
