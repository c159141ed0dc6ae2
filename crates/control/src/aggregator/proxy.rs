//! Passes a request on and its answer back: bodies as they come, upgraded connections byte by byte.

use super::{Backend, authentication};
use crate::authn::Identity;
use crate::http::{Session, tunnel};
use crate::webhook_client;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header, request};
use hyper::upgrade::OnUpgrade;
use tokio_util::sync::CancellationToken;

/// Headers that are about one connection.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

impl Backend {
    /// Answers a request in the name of `identity`.
    pub(crate) async fn answer(&self, mut head: request::Parts, body: Body, identity: &Identity) -> Response {
        if !self.is_available() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
        }
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => return plain(StatusCode::INTERNAL_SERVER_ERROR, why),
        };
        let front: Option<OnUpgrade> = head.extensions.remove();
        let session = Session::of(&head.extensions);
        let upgrade = head.headers.get(header::UPGRADE).cloned().filter(|_| front.is_some());
        authentication::state(identity, &mut head.headers);
        let request = match self.request(&head, body, upgrade) {
            Ok(request) => request,
            Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        match client.request(request).await {
            Ok(answer) => passed_back(answer, front, session, self.shutdown.clone()),
            Err(error) => {
                let text = format!("error trying to reach service: {}", webhook_client::detail(&error));
                plain(StatusCode::SERVICE_UNAVAILABLE, &text)
            }
        }
    }

    /// The same request, to the other server.
    fn request(
        &self,
        head: &request::Parts,
        body: Body,
        upgrade: Option<HeaderValue>,
    ) -> Result<Request<Body>, http::Error> {
        let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = Request::builder()
            .method(head.method.clone())
            .uri(self.uri(path)?)
            .body(body)?;
        let headers = request.headers_mut();
        headers.clone_from(&head.headers);
        without_hops(headers);
        headers.remove(header::HOST);
        if let Some(upgrade) = upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, upgrade);
        }
        Ok(request)
    }

    /// A path of the other server.
    pub(super) fn uri(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        let authority = format!("{}:{}", self.target.host(), self.target.port);
        Uri::builder()
            .scheme("https")
            .authority(authority)
            .path_and_query(path_and_query)
            .build()
    }
}

fn without_hops(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::UPGRADE);
}

fn passed_back(
    mut answer: Response<hyper::body::Incoming>,
    front: Option<OnUpgrade>,
    session: Session,
    shutdown: CancellationToken,
) -> Response {
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let back = switched.then(|| hyper::upgrade::on(&mut answer));
    let (mut head, body) = answer.into_parts();
    if !switched {
        without_hops(&mut head.headers);
    }
    let mut response = Response::from_parts(head, Body::new(body));
    if let (Some(front), Some(back)) = (front, back) {
        session.run(&mut response, tunnel(front, back), shutdown);
    }
    response
}

/// What Kubernetes answers when there is nobody to pass a request on to.
fn plain(code: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
