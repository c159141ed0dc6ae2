//! Requests for certificates: those of nodes for themselves are approved, approved ones are signed, old ones go.
//!
//! ```text
//!   request ─▶ approve: may this node ask for that? ─▶ Approved ─▶ sign: does it fit the signer? ─▶ certificate
//!      └──────────────── clean: nobody needs it any more ◀──────── or Failed ◀──┘
//! ```
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

mod request;

use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{is_conflict, is_not_found};
use catamaran_kinds::signing;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use request::Facts;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const WORKERS: usize = 5;
/// The longest a certificate is valid.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_secs(10 * 60);
/// How long a request that was answered stays.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
/// How long one that nobody answers does.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Signs with the cluster's CA: a request (DER, as it was judged) that was approved, for what the certificate is, and for how long. Returns the
/// certificate (PEM).
pub type Sign =
    Arc<dyn Fn(&[u8], &[String], Duration) -> Result<String, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// What there may be to do about a request. Each has its own retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Job {
    Approve,
    Sign,
    Clean,
}

pub(crate) async fn run(client: Client, sign: Sign, shutdown: CancellationToken) {
    let requests = watcher(
        Api::<CertificateSigningRequest>::all(client.clone()),
        watcher::Config::default(),
    );
    let sources = vec![source("certificate signing requests", requests, |change| {
        let Change::Is(request) = change else { return Vec::new() };
        let name = request.name_any();
        let jobs = [
            (Job::Approve, is_open(&request)),
            (Job::Sign, is_to_be_signed(&request)),
            (Job::Clean, true),
        ];
        let jobs = jobs.into_iter().filter(|(_, wanted)| *wanted);
        jobs.map(|(job, _)| (job, name.clone())).collect()
    })];
    drive(
        "certificatesigningrequest",
        sources,
        WORKERS,
        shutdown,
        |(job, name)| work(client.clone(), Arc::clone(&sign), job, name),
    )
    .await;
}

async fn work(client: Client, sign: Sign, job: Job, name: String) -> kube::Result<Next> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let Some(request) = requests.get_opt(&name).await? else {
        return Ok(Next::Done);
    };
    let done = match job {
        Job::Approve => approve(&client, &requests, request).await,
        Job::Sign => issue(&requests, request, &sign).await,
        Job::Clean => clean(&requests, &request, Timestamp::now()).await,
    };
    match done {
        // It is gone, or the watch shows what it is now.
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Next::Done),
        other => other,
    }
}

fn conditions(request: &CertificateSigningRequest) -> impl Iterator<Item = &CertificateSigningRequestCondition> {
    let status = request.status.iter();
    status.flat_map(|status| status.conditions.iter().flatten())
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request).any(|condition| condition.type_ == kind)
}

fn certificate(request: &CertificateSigningRequest) -> Option<&ByteString> {
    let certificate = request.status.as_ref()?.certificate.as_ref()?;
    (!certificate.0.is_empty()).then_some(certificate)
}

fn is_open(request: &CertificateSigningRequest) -> bool {
    certificate(request).is_none() && !has(request, "Approved") && !has(request, "Denied")
}

fn is_to_be_signed(request: &CertificateSigningRequest) -> bool {
    certificate(request).is_none() && has(request, "Approved") && !has(request, "Denied") && !has(request, "Failed")
}

/// Approves what a node asks for itself, or for the first time, if it may.
async fn approve(
    client: &Client,
    requests: &Api<CertificateSigningRequest>,
    mut request: CertificateSigningRequest,
) -> kube::Result<Next> {
    if !is_open(&request) || request.spec.signer_name != request::KUBELET_CLIENT {
        return Ok(Next::Done);
    }
    let Ok(facts) = signing::decode(&request.spec.request.0).and_then(|der| Facts::read(&der)) else {
        return Ok(Next::Done);
    };
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    if request::kubelet_client(&facts, usages).is_err() {
        return Ok(Next::Done);
    }
    let own = request.spec.username.as_deref().unwrap_or_default() == facts.common_name;
    let ways = [
        (
            own,
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        ),
        (
            true,
            "nodeclient",
            "Auto approving kubelet client certificate after SubjectAccessReview.",
        ),
    ];
    for (_, permission, message) in ways.into_iter().filter(|(applies, ..)| *applies) {
        if may(client, &request, permission).await? {
            add(&mut request, "Approved", "AutoApproved", message);
            let name = request.name_any();
            requests
                .replace_subresource("approval", &name, &PostParams::default(), &request)
                .await?;
            return Ok(Next::Done);
        }
    }
    // It may be allowed later.
    Ok(Next::Again)
}

/// May whoever sent it create such requests?
async fn may(client: &Client, request: &CertificateSigningRequest, permission: &str) -> kube::Result<bool> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: request.spec.username.clone(),
            uid: request.spec.uid.clone(),
            groups: request.spec.groups.clone(),
            extra: request.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                subresource: Some(permission.to_owned()),
                verb: Some("create".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Signs what was approved for one of our signers, or says why it does not.
async fn issue(
    requests: &Api<CertificateSigningRequest>,
    mut request: CertificateSigningRequest,
    sign: &Sign,
) -> kube::Result<Next> {
    let signer = &request.spec.signer_name;
    if !is_to_be_signed(&request) || !request::is_ours(signer) {
        return Ok(Next::Done);
    }
    let usages = request.spec.usages.clone().unwrap_or_default();
    let judged = signing::decode(&request.spec.request.0).and_then(|der| {
        request::judge(signer, &Facts::read(&der)?, &usages)?;
        Ok(der)
    });
    match judged {
        Err(why) => add(&mut request, "Failed", "SignerValidationFailure", &why),
        Ok(der) => match sign(&der, &usages, lifetime(request.spec.expiration_seconds)) {
            Ok(certificate) => {
                let status = request.status.get_or_insert_default();
                status.certificate = Some(ByteString(certificate.into_bytes()));
            }
            Err(error) => {
                tracing::warn!(
                    request = request.name_any(),
                    error = &*error,
                    "a certificate could not be signed"
                );
                return Ok(Next::Again);
            }
        },
    }
    let name = request.name_any();
    requests
        .replace_status(&name, &PostParams::default(), &request)
        .await
        .map(|_| Next::Done)
}

fn lifetime(asked: Option<i32>) -> Duration {
    let Some(seconds) = asked else { return LONGEST };
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).clamp(SHORTEST, LONGEST)
}

fn add(request: &mut CertificateSigningRequest, kind: &str, reason: &str, message: &str) {
    let status: &mut CertificateSigningRequestStatus = request.status.get_or_insert_default();
    status
        .conditions
        .get_or_insert_default()
        .push(CertificateSigningRequestCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(Time(Timestamp::now())),
            ..CertificateSigningRequestCondition::default()
        });
}

/// Deletes a request that has served, now or when it will have.
async fn clean(
    requests: &Api<CertificateSigningRequest>,
    request: &CertificateSigningRequest,
    now: Timestamp,
) -> kube::Result<Next> {
    let Some(at) = end(request) else { return Ok(Next::Done) };
    if now <= at {
        let left = Duration::try_from(now.duration_until(at)).unwrap_or_default();
        return Ok(Next::After(left + Duration::from_secs(1)));
    }
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: request.metadata.uid.clone(),
            resource_version: request.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    requests
        .delete(&request.name_any(), &parameters)
        .await
        .map(|_| Next::Done)
}

/// Pure: when nobody needs the request any more; `None` if there is no telling.
fn end(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let issued = certificate(request);
    let mut ends: Vec<Timestamp> = Vec::new();
    for condition in conditions(request) {
        let counts = match condition.type_.as_str() {
            "Approved" => issued.is_some(),
            "Denied" | "Failed" => true,
            _ => false,
        };
        let since = condition.last_update_time.as_ref().filter(|_| counts);
        ends.extend(since.and_then(|since| since.0.checked_add(ANSWERED).ok()));
    }
    if conditions(request).next().is_none() {
        let created = request.metadata.creation_timestamp.as_ref();
        ends.extend(created.and_then(|created| created.0.checked_add(PENDING).ok()));
    }
    if has(request, "Approved") {
        ends.extend(issued.and_then(expiry));
    }
    ends.into_iter().min()
}

/// When the certificate is not valid any more.
fn expiry(certificate: &ByteString) -> Option<Timestamp> {
    let pem = Pem::iter_from_buffer(&certificate.0).next()?.ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests;
