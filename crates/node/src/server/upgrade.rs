//! Leaving HTTP for WebSocket or SPDY/3.1: what `exec`, `attach` and `port-forward` have in common.

use super::Refusal;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::time::Duration;

const SPDY: &str = "SPDY/3.1";
/// Names what is spoken over SPDY.
const PROTOCOL_VERSION: &str = "x-stream-protocol-version";
pub(super) const ACCEPTED_VERSIONS: &str = "x-accept-stream-protocol-versions";
/// How long a connection may be silent, and how long a client may take to open its streams; the kubelet's numbers.
pub(super) const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
pub(super) const STREAM_CREATION: Duration = Duration::from_secs(30);

/// What a request wants to become.
pub(super) enum Wish {
    WebSocket(WebSocketUpgrade),
    Spdy(Parts),
}

impl Wish {
    pub(super) async fn of(request: Request) -> Result<Self, Refusal> {
        let (mut parts, _) = request.into_parts();
        let upgrade = parts.headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
        match upgrade {
            Some(upgrade) if upgrade.eq_ignore_ascii_case("websocket") => {
                let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
                upgrade
                    .map(Wish::WebSocket)
                    .map_err(|error| Refusal::bad_request(error.body_text()))
            }
            Some(upgrade) if upgrade.eq_ignore_ascii_case(SPDY) => Ok(Wish::Spdy(parts)),
            _ => Err(Refusal::bad_request(
                "unable to upgrade: missing upgrade headers in request",
            )),
        }
    }
}

/// An answer that switches to SPDY, and the connection once that was sent.
pub(super) struct Switch {
    pub(super) response: Response,
    /// The client's first among those that are spoken.
    pub(super) protocol: &'static str,
    upgrade: OnUpgrade,
}

impl Switch {
    /// Agrees with the client on one of `spoken`.
    pub(super) fn new(parts: &mut Parts, spoken: &'static [&'static str]) -> Result<Self, Refusal> {
        let protocol = negotiate(&parts.headers, spoken)?;
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or_else(|| Refusal::bad_request("unable to upgrade: this connection cannot be"))?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
        Ok(Self {
            response,
            protocol,
            upgrade,
        })
    }

    /// Splits into the answer and what follows it; `None` comes out of that when the client has left.
    pub(super) fn into_parts(self) -> (Response, impl Future<Output = Option<TokioIo<Upgraded>>> + Send) {
        let upgraded = async { self.upgrade.await.ok().map(TokioIo::new) };
        (self.response, upgraded)
    }
}

fn negotiate(headers: &HeaderMap, spoken: &'static [&'static str]) -> Result<&'static str, Refusal> {
    let values = headers.get_all(PROTOCOL_VERSION);
    let offered: Vec<&str> = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    if offered.is_empty() {
        return Err(Refusal::bad_request(
            "unable to upgrade: header X-Stream-Protocol-Version names no protocol",
        ));
    }
    let common = offered
        .iter()
        .find_map(|name| spoken.iter().find(|own| *own == name).copied());
    common.ok_or_else(|| {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            offered.join(" "),
            spoken.join(" ")
        );
        Refusal {
            code: StatusCode::FORBIDDEN,
            message,
            accepts: spoken,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_first_choice_counts() {
        let choose = |offered: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in offered {
                headers.append(PROTOCOL_VERSION, HeaderValue::from_static(value));
            }
            negotiate(&headers, &["b", "a"]).map_err(|refusal| (refusal.code.as_u16(), refusal.message))
        };
        assert_eq!(choose(&["a", "b"]), Ok("a"));
        assert_eq!(choose(&["c, b ,a"]), Ok("b"));
        assert_eq!(choose(&[]).expect_err("none").0, 400);
        let (code, message) = choose(&["c", "d"]).expect_err("none in common");
        assert_eq!(code, 403);
        assert!(
            message.ends_with("client supports [c d], server accepts [b a]"),
            "{message}"
        );
    }
}
