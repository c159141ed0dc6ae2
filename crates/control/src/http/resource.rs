//! The one route of all resources: from method, path and query to a verb of the registry, and back to a response.

use super::error::{self, Failure};
use super::layers::WithoutOwners;
use super::negotiate::{self, Offer};
use super::query::Query;
use super::render::{self, Style};
use super::request_info::RequestInfo;
use super::reviews::Review;
use super::watch_stream::WatchStream;
use super::{App, component_statuses, layers, subresources, watch_socket};
use crate::authn::Identity;
use crate::kinds::KindRef;
use crate::registry::filter::Filter;
use crate::registry::resource::Resource;
use crate::registry::{Caller, ListOptions, Part, Target, VersionMatch, WatchOptions, WriteOptions};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use catamaran_api::body::{self, Body, Format};
use catamaran_api::patch::PatchType;
use catamaran_api::table::IncludeObject;
use catamaran_api::{Errors, GroupKind, Path, Status};
use http::{HeaderMap, Method, StatusCode, header, request};
use std::sync::Arc;
use std::time::Duration;

/// No body may be longer. The limit of Kubernetes.
const LONGEST_BODY: usize = 3 << 20;
/// How long a client may take to send its body.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn handle(app: &Arc<App>, request: Request) -> Response {
    let deprecation = deprecation(app, &request);
    let mut response = dispatch(app, request)
        .await
        .unwrap_or_else(|status| Failure(status).into_response());
    if let Some(text) = deprecation {
        render::warn_first(&mut response, text);
    }
    response
}

/// Whoever uses a version that is on its way out is told so, whatever becomes of the request.
fn deprecation(app: &App, request: &Request) -> Option<String> {
    let info = request.extensions().get::<Arc<RequestInfo>>()?;
    let resource = app.registry.resource(&info.api_version, &info.plural)?;
    resource.info.deprecation.as_deref().map(ToOwned::to_owned)
}

/// A request for a resource, taken apart.
pub(super) struct Call<'a> {
    pub(super) app: &'a App,
    pub(super) head: request::Parts,
    pub(super) query: Query,
    pub(super) target: Target,
    /// Empty for the object itself.
    pub(super) subresource: String,
}

async fn dispatch(app: &Arc<App>, request: Request) -> Result<Response, Status> {
    let (head, body) = request.into_parts();
    let Some(info) = head.extensions.get::<Arc<RequestInfo>>().cloned() else {
        return Ok(error::page_not_found());
    };
    if let Some(backend) = app.aggregator.backend(&info.api_version) {
        let identity = head.extensions.get::<Identity>().cloned();
        let identity = identity.unwrap_or_else(Identity::anonymous);
        return Ok(backend.answer(head, body, &identity).await);
    }
    if info.plural.is_empty() {
        return match head.method {
            Method::GET | Method::HEAD => match app.discovery().below(&info.api_version, &head.headers) {
                Some(document) => Ok(document),
                None => nothing_there(app, &head, &info),
            },
            _ => Err(Status::method_not_allowed()),
        };
    }
    let Some(resource) = app.registry.resource(&info.api_version, &info.plural) else {
        if subresources::binding::is_collection(&info) {
            return subresources::binding::answer_collection(app, &info, head, body).await;
        }
        return match Review::find(&info) {
            Some(review) => review.answer(app, &info, &head, body).await,
            None => nothing_there(app, &head, &info),
        };
    };
    let query = Query::parse(&head.uri)?;
    let verb = layers::verb(&head.method, &info, head.uri.query().unwrap_or_default());
    if is_defined(&resource) && !fits_scope(&resource, &info, verb) {
        return Ok(error::page_not_found());
    }
    let target = target(&resource, &info)?;
    let call = Call {
        app,
        query,
        target,
        subresource: info.subresource.clone(),
        head,
    };
    if !info.subresource.is_empty() {
        return subresources::answer(&call, &info, body).await;
    }
    if component_statuses::are_meant(&call.target.resource) {
        return component_statuses::answer(&call, &info).await;
    }
    match layers::verb(&call.head.method, &info, call.head.uri.query().unwrap_or_default()) {
        "update" | "patch" if info.name.is_empty() && is_defined(&resource) => {
            Err(Status::bad_request("name must be provided"))
        }
        "list" if readable(&call.head.method) => call.list().await,
        "watch" if readable(&call.head.method) => call.watch().await,
        "get" if readable(&call.head.method) => call.get().await,
        "create" if info.name.is_empty() => call.create(body).await,
        "update" if !info.name.is_empty() => call.update(Part::Whole, body).await,
        "patch" if !info.name.is_empty() => call.patch(Part::Whole, body).await,
        "delete" => call.delete(body).await,
        // Of all namespaces at once nothing is deleted.
        "deletecollection" if !resource.info.namespaced || info.namespace.is_some() => {
            call.delete_collection(body).await
        }
        verb if is_defined(&resource) => Err(Status::method_not_supported(&resource.group_resource, verb)),
        _ => Err(Status::method_not_allowed()),
    }
}

/// Was the kind defined at run time?
fn is_defined(resource: &Resource) -> bool {
    matches!(resource.kind, KindRef::Defined(_))
}

/// Objects of a defined kind are asked for where they are, in their namespace or in none; only lists and watches reach across.
fn fits_scope(resource: &Resource, info: &RequestInfo, verb: &str) -> bool {
    match (resource.info.namespaced, info.namespace.is_some()) {
        (true, false) => matches!(verb, "list" | "watch"),
        (false, true) => false,
        _ => true,
    }
}

/// Below a group that is built in there is an API to say that it has no such resource.
fn nothing_there(app: &App, head: &request::Parts, info: &RequestInfo) -> Result<Response, Status> {
    let group = info.api_version.split('/').next().unwrap_or_default();
    let is_core = head.uri.path().starts_with("/api/");
    let builtin = app.registry.builtin();
    if is_core || builtin.iter().any(|resource| resource.info.group == group) {
        return Err(Status::unknown_path());
    }
    Ok(error::page_not_found())
}

pub(super) fn readable(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Checks that the path fits the scope of the resource.
fn target(resource: &Arc<Resource>, info: &RequestInfo) -> Result<Target, Status> {
    let namespaced = resource.info.namespaced;
    // A namespace is an object without one, and the namespace of what is in it.
    let namespace = info.namespace.clone();
    if namespace.is_some() && !namespaced {
        return Err(Status::unknown_path());
    }
    if namespaced && namespace.is_none() && !info.name.is_empty() {
        return Err(Status::unknown_path());
    }
    Ok(Target {
        resource: Arc::clone(resource),
        namespace,
        name: info.name.clone(),
    })
}

impl Call<'_> {
    pub(super) fn style(&self) -> Result<Style, Status> {
        let offer = match self.target.resource.kind {
            KindRef::Builtin(_) => Offer::BUILTIN,
            KindRef::Defined(_) => Offer::DEFINED,
        };
        let form = negotiate::accepted(&self.head.headers, offer)?;
        let text = self.query.get("includeObject");
        let include = IncludeObject::parse(text)
            .ok_or_else(|| Status::bad_request(format!("unrecognized includeObject value: {text:?}")))?;
        Ok(Style { form, include })
    }

    /// Options of a write: the query, and who asks. `kind` is that of the options.
    pub(super) fn write_options(&self, kind: &'static str) -> Result<WriteOptions, Status> {
        let mut options = self.query.write_options(kind)?;
        options.caller = self.caller();
        if let Some(subresource) = self.target.resource.info.subresource(&self.subresource) {
            options.subresource = subresource.name;
        }
        Ok(options)
    }

    pub(super) fn caller(&self) -> Arc<Caller> {
        let user_agent = self.head.headers.get(header::USER_AGENT);
        let user_agent = user_agent.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let identity = self.head.extensions.get::<Identity>();
        Arc::new(Caller {
            identity: identity.cloned().unwrap_or_else(Identity::anonymous),
            user_agent: user_agent.to_owned(),
        })
    }

    fn filter(&self) -> Result<Filter, Status> {
        Filter::parse(
            &self.target.resource,
            self.query.get("labelSelector"),
            self.query.get("fieldSelector"),
        )
    }

    pub(super) async fn get(&self) -> Result<Response, Status> {
        let style = self.style()?;
        match self.query.get("resourceVersion") {
            "" | "0" => {}
            version => {
                let revision = crate::registry::revision(version).map_err(Status::unknown)?;
                self.app
                    .registry
                    .caches
                    .wait_for(revision, Duration::from_secs(3))
                    .await?;
            }
        }
        let record = self.app.registry.get(&self.target).await?;
        render::object(&self.target.resource, style, StatusCode::OK, record.json())
    }

    /// What a list, or the deletion of what it would show, asks for.
    pub(super) fn list_options(&self) -> Result<ListOptions, Status> {
        let limit = self.query.number("limit")?.unwrap_or(0);
        Ok(ListOptions {
            filter: self.filter()?,
            // As many as there are, if it makes no sense.
            limit: usize::try_from(limit).unwrap_or(0),
            continue_token: self.query.get("continue").to_owned(),
            resource_version: self.query.get("resourceVersion").to_owned(),
            version_match: VersionMatch::parse(self.query.get("resourceVersionMatch"))?,
            send_initial_events: self.query.flag("sendInitialEvents"),
        })
    }

    async fn list(&self) -> Result<Response, Status> {
        let style = self.style()?;
        let options = self.list_options()?;
        let list = self.app.registry.list(&self.target, &options).await?;
        render::list(&self.target.resource, style, list).await
    }

    async fn watch(&self) -> Result<Response, Status> {
        let style = self.style()?;
        let room = Arc::clone(&self.app.watches)
            .try_acquire_owned()
            .map_err(|_| Status::too_many_requests("too many watches are open, try again later", 5))?;
        let seconds = self.query.number("timeoutSeconds")?;
        let options = WatchOptions {
            filter: self.filter()?,
            resource_version: self.query.get("resourceVersion").to_owned(),
            version_match: VersionMatch::parse(self.query.get("resourceVersionMatch"))?,
            bookmarks: self.query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: self.query.flag("sendInitialEvents"),
            timeout: seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        };
        let watching = self.app.registry.watch(&self.target, options).await?;
        let info = &self.target.resource.info;
        let meter = self.app.metrics.watch(&info.group, &info.version, &info.plural);
        let bare = self.head.extensions.get::<WithoutOwners>().is_some();
        let stream = WatchStream::new(watching, style, bare, Arc::clone(&self.app.frames), room, meter)?;
        if watch_socket::is_wanted(&self.head.headers) {
            let shutdown = self.app.registry.shutdown.clone();
            return watch_socket::response(stream, self.head.clone(), shutdown).await;
        }
        Ok(stream.response())
    }

    async fn create(&self, body: axum::body::Body) -> Result<Response, Status> {
        let style = self.style()?;
        let options = self.write_options("CreateOptions")?;
        if self.target.resource.info.namespaced && self.target.namespace.is_none() {
            return Err(Status::method_not_allowed());
        }
        let object = self.object(body).await?;
        let written = self.app.registry.create(&self.target, object, &options).await?;
        self.settle().await;
        render::written(&self.target.resource, style, written)
    }

    pub(super) async fn update(&self, part: Part, body: axum::body::Body) -> Result<Response, Status> {
        let style = self.style()?;
        let options = self.write_options("UpdateOptions")?;
        let object = self.object(body).await?;
        let written = self.app.registry.update(&self.target, part, object, &options).await?;
        self.settle().await;
        render::written(&self.target.resource, style, written)
    }

    pub(super) async fn patch(&self, part: Part, body: axum::body::Body) -> Result<Response, Status> {
        let style = self.style()?;
        let options = self.write_options("PatchOptions")?;
        let patch_type = self.patch_type()?;
        check_patch_options(patch_type, &options)?;
        let bytes = read(&self.head.headers, body).await?;
        let registry = &self.app.registry;
        let written = match patch_type {
            PatchType::Apply => registry.apply(&self.target, part, &bytes, &options).await?,
            other => registry.patch(&self.target, part, other, &bytes, &options).await?,
        };
        self.settle().await;
        render::written(&self.target.resource, style, written)
    }

    /// What a definition defines is served before its write is answered.
    pub(super) async fn settle(&self) {
        if crate::crd::defines(&self.target.resource) {
            self.app.registry.definitions.wait(&self.app.registry).await;
        }
    }

    /// In which language the body is a patch. Kinds defined at run time have no strategic merge patch.
    pub(super) fn patch_type(&self) -> Result<PatchType, Status> {
        let is_defined = matches!(self.target.resource.kind, KindRef::Defined(_));
        let patch_type = PatchType::from_content_type(content_type(&self.head.headers));
        match patch_type {
            Some(PatchType::Strategic) if is_defined => None,
            other => other,
        }
        .ok_or_else(|| Status::unsupported_media_type(PatchType::media_types(!is_defined)))
    }

    /// The body as an object.
    pub(super) async fn object(&self, body: axum::body::Body) -> Result<Body, Status> {
        let format = format(&self.head.headers)?;
        let bytes = read(&self.head.headers, body).await?;
        let kind = match self.subresource.as_str() {
            "scale" => "Scale",
            _ => &self.target.resource.info.kind,
        };
        let body = body::parse_object(kind, format, &bytes)?;
        let says_kind = |body: &Body| body.value.get("kind").is_some_and(|kind| kind != "");
        if is_defined(&self.target.resource) && format != Format::Protobuf && !says_kind(&body) {
            let text = String::from_utf8_lossy(&bytes);
            let why = format!("Object 'Kind' is missing in '{text}'");
            return Err(body::unrecognized(kind, &why, &bytes));
        }
        Ok(body)
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

pub(super) fn format(headers: &HeaderMap) -> Result<Format, Status> {
    Format::from_content_type(content_type(headers)).ok_or_else(|| Status::unsupported_media_type(Format::MEDIA_TYPES))
}

/// `force` and `fieldManager` belong to applies.
fn check_patch_options(patch_type: PatchType, options: &WriteOptions) -> Result<(), Status> {
    let mut errors = Errors::new();
    if patch_type == PatchType::Apply {
        if options.field_manager.is_empty() {
            errors.required(&Path::new("fieldManager"), "is required for apply patch");
        }
    } else if options.force.is_some() {
        errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(
        &GroupKind::from_static("meta.k8s.io", "PatchOptions"),
        "",
        &errors,
    ))
}

/// The whole body, bounded in length and time.
pub(super) async fn read(headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes, Status> {
    let too_large = || Status::request_too_large(format!("limit is {LONGEST_BODY}"));
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > LONGEST_BODY) {
        return Err(too_large());
    }
    let limited = http_body_util::Limited::new(body, LONGEST_BODY);
    match tokio::time::timeout(BODY_PATIENCE, http_body_util::BodyExt::collect(limited)).await {
        Ok(Ok(collected)) => {
            let bytes = collected.to_bytes();
            if crate::audit::is_noting() {
                crate::audit::note_body(content_type(headers), &bytes);
            }
            Ok(bytes)
        }
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Status::bad_request(format!("the body cannot be read: {error}"))),
        Err(_) => Err(Status::timeout("the body did not arrive in time", 0)),
    }
}
