//! What kind of request this is, found out once and first, for all the layers that treat kinds differently.

use super::request_info::RequestInfo;
use super::reviews::Review;
use super::stack::Next;
use super::{App, layers};
use axum::extract::Request;
use axum::response::Response;
use std::sync::Arc;

/// What layers want to know of a request.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    /// `None` for paths that are no resources.
    pub(crate) info: Option<Arc<RequestInfo>>,
    /// As policies name it; the method in lower case for paths that are no resources.
    pub(crate) verb: &'static str,
    /// Is it meant to last, so that it has no deadline and takes nobody's place?
    pub(crate) long_running: bool,
    /// Is there such a resource?
    pub(crate) served: bool,
    /// Is there such a part of it, if the path names one?
    pub(crate) declared: bool,
}

impl Class {
    pub(super) fn of(app: &App, request: &Request) -> Class {
        let (method, uri) = (request.method(), request.uri());
        let info = RequestInfo::parse(uri.path()).filter(|info| !info.plural.is_empty());
        let query = uri.query().unwrap_or_default();
        let verb = match &info {
            Some(info) => layers::verb(method, info, query),
            None => lower(method),
        };
        let long_running = match &info {
            Some(info) => {
                verb == "watch"
                    || matches!(
                        info.subresource.as_str(),
                        "attach" | "exec" | "proxy" | "log" | "portforward"
                    )
            }
            None => uri.path().starts_with("/catamaran.dev/"),
        };
        let served = info.as_ref().is_some_and(|info| {
            let resource = app.registry.resource(&info.api_version, &info.plural);
            resource.is_some() || Review::find(info).is_some()
        });
        let declared = info.as_ref().is_some_and(|info| {
            let resource = app.registry.resource(&info.api_version, &info.plural);
            resource.is_some_and(|resource| resource.info.subresource(&info.subresource).is_some())
        });
        Class {
            served,
            declared,
            info: info.map(Arc::new),
            verb,
            long_running,
        }
    }

    /// Group of the resource; empty for the core group and for paths that are none.
    pub(crate) fn group(&self) -> &str {
        self.info
            .as_ref()
            .and_then(|info| info.api_version.split_once('/'))
            .map_or("", |(group, _)| group)
    }

    /// Version of the resource; empty for paths that are none.
    pub(crate) fn version(&self) -> &str {
        let Some(info) = &self.info else { return "" };
        info.api_version
            .split_once('/')
            .map_or(info.api_version.as_str(), |(_, version)| version)
    }

    /// `namespace`, `cluster` or `resource`, as Kubernetes' metrics have it; empty for paths that are no resources.
    pub(crate) fn scope(&self) -> &'static str {
        match &self.info {
            None => "",
            Some(info) if !info.name.is_empty() || self.verb == "create" => "resource",
            Some(info) if info.namespace.is_some() => "namespace",
            Some(_) => "cluster",
        }
    }
}

fn lower(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "other",
    }
}

pub(super) async fn classify(app: &App, mut request: Request, next: impl Next) -> Response {
    let class = Class::of(app, &request);
    request.extensions_mut().insert(Arc::new(class));
    next.run(request).await
}
