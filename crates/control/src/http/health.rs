//! Is the server well, and what is it?

use super::App;
use super::error::Failure;
use super::query::Query;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use catamaran_api::Status;
use catamaran_api::field::quote;
use http::{HeaderValue, StatusCode, header};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// The version of Kubernetes whose API this is.
pub(crate) const GIT_VERSION: &str = "v1.35.0+catamaran";

/// A named question with a yes or no answer.
type Check = (&'static str, fn(&App) -> bool);

const PING: Check = ("ping", |_| true);
const STORE: Check = ("store", |app| app.registry.healthy());
const WATCH_CACHE: Check = ("watch-cache", |app| app.registry.caught_up());
const BOOTSTRAP: Check = ("poststarthook/bootstrap", App::is_bootstrapped);
const SHUTDOWN: Check = ("shutdown", |app| !app.registry.shutdown.is_cancelled());

pub(super) async fn healthz(app: State<Arc<App>>, path: Option<Path<String>>, request: Request) -> Response {
    std::future::ready(answer("healthz", &app, &[PING, STORE, BOOTSTRAP], path, &request)).await
}

pub(super) async fn livez(app: State<Arc<App>>, path: Option<Path<String>>, request: Request) -> Response {
    std::future::ready(answer("livez", &app, &[PING, STORE], path, &request)).await
}

pub(super) async fn readyz(app: State<Arc<App>>, path: Option<Path<String>>, request: Request) -> Response {
    std::future::ready(answer(
        "readyz",
        &app,
        &[PING, STORE, WATCH_CACHE, BOOTSTRAP, SHUTDOWN],
        path,
        &request,
    ))
    .await
}

fn answer(what: &str, app: &App, checks: &[Check], path: Option<Path<String>>, request: &Request) -> Response {
    let query = match Query::parse(request.uri()) {
        Ok(query) => query,
        Err(status) => return Failure(status).into_response(),
    };
    if let Some(Path(name)) = path {
        return match checks.iter().find(|(own, _)| *own == name) {
            Some((_, check)) if check(app) => text(StatusCode::OK, "ok".to_owned()),
            Some(_) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal server error: not ok\n".to_owned(),
            ),
            None => Failure(Status::unknown_path()).into_response(),
        };
    }
    let excluded: BTreeSet<&str> = query.all("exclude").collect();
    let (mut lines, mut well) = (String::new(), true);
    for (name, check) in checks {
        if excluded.contains(name) {
            let _ = writeln!(lines, "[+]{name} excluded: ok");
            continue;
        }
        let passed = check(app);
        app.metrics.slis.checked(name, what, passed);
        if passed {
            let _ = writeln!(lines, "[+]{name} ok");
        } else {
            well = false;
            let _ = writeln!(lines, "[-]{name} failed: reason withheld");
        }
    }
    let unknown = excluded
        .iter()
        .filter(|name| checks.iter().all(|(own, _)| own != *name));
    let unknown: Vec<String> = unknown.map(|name| quote(name)).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        let _ = writeln!(
            lines,
            "warn: some health checks cannot be excluded: no matches for {unknown}"
        );
    }
    // As in Kubernetes, whatever its value.
    let verbose = query.all("verbose").next().is_some();
    match (well, verbose) {
        (true, false) => text(StatusCode::OK, "ok".to_owned()),
        (true, true) => text(StatusCode::OK, format!("{lines}{what} check passed\n")),
        (false, _) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{lines}{what} check failed\n"),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub(super) async fn version() -> Response {
    let body = serde_json::json!({
        "major": "1",
        "minor": "35",
        "emulationMajor": "1",
        "emulationMinor": "35",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "34",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", go_arch(std::env::consts::ARCH)),
    });
    std::future::ready(axum::Json(body).into_response()).await
}

/// The name Go, and so Kubernetes, has for a processor.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
