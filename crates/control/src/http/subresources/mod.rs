//! The paths below an object. One file per subresource, each with one function that answers whatever method it is asked with;
//! a kind says in [`Info::subresources`](crate::kinds::Info) which of them its objects have.

mod attach;
pub(super) mod binding;
mod connection;
mod eviction;
mod exec;
mod finalize;
mod log;
mod part;
mod portforward;
mod proxy;
mod scale;
mod status;
mod token;

use super::request_info::RequestInfo;
use super::resource::{Call, readable};
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;
use http::Method;

/// Answers a request for the subresource that `info` names.
pub(super) async fn answer(call: &Call<'_>, info: &RequestInfo, body: Body) -> Result<Response, Status> {
    let known = call.target.resource.info.subresource(&info.subresource);
    let resource = &call.target.resource;
    let is_defined = matches!(resource.kind, crate::kinds::KindRef::Defined(_));
    let absent = || {
        if is_defined {
            Status::not_found(&resource.group_resource, &info.name)
        } else {
            Status::unknown_path()
        }
    };
    let known = known.ok_or_else(absent)?;
    if info.deeper && known.name != "proxy" {
        return Err(absent());
    }
    if is_defined && !matches!(call.head.method, Method::PUT | Method::PATCH) && !readable(&call.head.method) {
        let verb = super::layers::verb(&call.head.method, info, call.head.uri.query().unwrap_or_default());
        return Err(Status::method_not_supported(&resource.group_resource, verb));
    }
    match known.name {
        name @ ("approval" | "ephemeralcontainers" | "resize") => part::answer(call, name, body).await,
        "attach" => attach::answer(call, body).await,
        "binding" => binding::answer(call, body).await,
        "eviction" => eviction::answer(call, body).await,
        "exec" => exec::answer(call, body).await,
        "finalize" => finalize::answer(call, body).await,
        "log" => log::answer(call).await,
        "portforward" => portforward::answer(call, body).await,
        "proxy" => proxy::answer(call, body).await,
        "scale" => scale::answer(call, body).await,
        "status" => status::answer(call, body).await,
        "token" => token::answer(call, body).await,
        _ => Err(Status::unknown_path()),
    }
}

/// The verbs most subresources know: the others answer 405.
enum Verb {
    Get,
    Put,
    Patch,
}

impl Verb {
    fn of(method: &Method) -> Result<Self, Status> {
        match *method {
            Method::PUT => Ok(Verb::Put),
            Method::PATCH => Ok(Verb::Patch),
            _ if readable(method) => Ok(Verb::Get),
            _ => Err(Status::method_not_allowed()),
        }
    }
}
