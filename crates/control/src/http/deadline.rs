//! Requests that are not meant to last end: after a minute, or sooner if the client says so with `?timeout=`.

use super::classify::Class;
use super::error::response;
use super::query;
use super::stack::Next;
use axum::extract::Request;
use axum::response::Response;
use catamaran_api::Status;
use catamaran_api::duration;
use std::sync::Arc;
use std::time::Duration;

/// Nobody waits longer.
const LONGEST: Duration = Duration::from_secs(60);

pub(super) async fn deadline(request: Request, next: impl Next) -> Response {
    if request
        .extensions()
        .get::<Arc<Class>>()
        .is_some_and(|class| class.long_running)
    {
        return next.run(request).await;
    }
    let timeout = match wanted(request.uri().query().unwrap_or_default()) {
        Ok(timeout) => timeout,
        Err(status) => return response(&status),
    };
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => response(&Status::timeout(
            "request did not complete within the allotted timeout",
            0,
        )),
    }
}

fn wanted(query: &str) -> Result<Duration, Status> {
    let Some(text) = query::raw(query, "timeout").filter(|text| !text.is_empty()) else {
        return Ok(LONGEST);
    };
    let timeout = duration::parse(&text).map_err(|error| {
        Status::bad_request(format!("invalid timeout specified in the request URL - time: {error}"))
    })?;
    match timeout {
        Some(timeout) if !timeout.is_zero() && timeout < LONGEST => Ok(timeout),
        _ => Ok(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_may_shorten_it_but_not_lengthen() {
        let of = |query: &str| wanted(query).map_err(|status| status.message().to_owned());
        assert_eq!(of("timeout=5s&x=y"), Ok(Duration::from_secs(5)));
        assert_eq!(of("a=b"), Ok(LONGEST));
        assert_eq!(of("timeout=0s"), Ok(LONGEST));
        assert_eq!(of("timeout=0"), Ok(LONGEST));
        assert_eq!(of("timeout=-3s"), Ok(LONGEST));
        assert_eq!(of("timeout=2h"), Ok(LONGEST));
        assert_eq!(of("timeout=1m0.5s"), Ok(LONGEST));
        assert_eq!(of("timeout=250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(
            of("timeout=soon"),
            Err("invalid timeout specified in the request URL - time: invalid duration \"soon\"".to_owned())
        );
        assert_eq!(
            of("timeout=5"),
            Err("invalid timeout specified in the request URL - time: missing unit in duration \"5\"".to_owned())
        );
    }
}
