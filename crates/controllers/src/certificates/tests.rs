//! Requests, whole: against a server of a few objects, with a CA that only says what it was asked.

use super::*;
use crate::framework::fake::Fake;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn pem(common_name: &str, organization: &str) -> String {
    let mut params = rcgen::CertificateParams::default();
    let name = &mut params.distinguished_name;
    name.push(rcgen::DnType::OrganizationName, organization);
    name.push(rcgen::DnType::CommonName, common_name);
    let key = rcgen::KeyPair::generate().expect("key");
    params.serialize_request(&key).expect("request").pem().expect("pem")
}

fn put(fake: &Fake, name: &str, signer: &str, usages: &[&str], conditions: &Value) {
    put_pem(
        fake,
        name,
        signer,
        usages,
        conditions,
        &pem("system:node:n1", "system:nodes"),
    );
}

fn put_pem(fake: &Fake, name: &str, signer: &str, usages: &[&str], conditions: &Value, pem: &str) {
    let spec = json!({
        "request": STANDARD.encode(pem),
        "signerName": signer, "usages": usages, "username": "system:node:n1", "expirationSeconds": 60,
    });
    let metadata = json!({ "name": name, "creationTimestamp": Timestamp::now().to_string() });
    let status = json!({ "conditions": conditions });
    fake.put(
        REQUESTS,
        json!({ "metadata": metadata, "spec": spec, "status": status }),
    );
}

fn approved() -> Value {
    json!([{ "type": "Approved", "status": "True", "lastUpdateTime": Timestamp::now().to_string() }])
}

/// Signs with what it was asked for.
fn echo() -> Sign {
    Arc::new(|_, usages, lifetime| Ok(format!("{} for {} s", usages.join("+"), lifetime.as_secs())))
}

async fn with_controller<F: Future<Output = ()>>(fake: &Fake, sign: Sign, test: F) {
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(fake.client(), sign, stop.clone()));
    test.await;
    stop.cancel();
    running.await.expect("the controller ends");
}

fn condition(fake: &Fake, name: &str, kind: &str) -> Option<Value> {
    let request = fake.get(REQUESTS, "", name)?;
    let conditions = request["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).cloned()
}

fn signed(fake: &Fake, name: &str) -> Option<String> {
    let request = fake.get(REQUESTS, "", name)?;
    let certificate = STANDARD.decode(request["status"]["certificate"].as_str()?).ok()?;
    String::from_utf8(certificate).ok()
}

const NODE_USAGES: [&str; 3] = ["digital signature", "key encipherment", "client auth"];

#[tokio::test]
async fn what_is_approved_is_signed_if_it_fits_the_signer() {
    let fake = Fake::default();
    put(&fake, "good", request::CLIENT, &["client auth"], &approved());
    put(&fake, "bad", request::CLIENT, &["server auth"], &approved());
    put(&fake, "foreign", "example.com/own", &["client auth"], &approved());
    put(&fake, "open", request::CLIENT, &["client auth"], &json!([]));
    with_controller(&fake, echo(), async {
        let certificate = fake.until(|fake| signed(fake, "good")).await;
        assert_eq!(certificate, "client auth for 600 s", "ten minutes are the least");
        let failed = fake.until(|fake| condition(fake, "bad", "Failed")).await;
        assert_eq!(failed["reason"], "SignerValidationFailure");
        assert_eq!(failed["message"], "invalid usage for client certificate: server auth");
        assert_eq!(signed(&fake, "bad"), None);
        assert_eq!(signed(&fake, "open"), None);
        assert_eq!(condition(&fake, "open", "Approved"), None);
        assert_eq!(signed(&fake, "foreign"), None);
    })
    .await;
}

#[tokio::test]
async fn nodes_that_may_are_approved_and_get_theirs() {
    let fake = Fake::default();
    put(&fake, "node", request::KUBELET_CLIENT, &NODE_USAGES, &json!([]));
    put(&fake, "person", request::CLIENT, &["client auth"], &json!([]));
    with_controller(&fake, echo(), async {
        // Nobody may, yet: it is asked again.
        fake.until(|fake| (fake.reviews() >= 2).then_some(())).await;
        assert_eq!(condition(&fake, "node", "Approved"), None);
        fake.allow();
        let condition_of = fake.until(|fake| condition(fake, "node", "Approved")).await;
        assert_eq!(condition_of["reason"], "AutoApproved");
        let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        assert_eq!(condition_of["message"], message);
        fake.until(|fake| signed(fake, "node")).await;
        assert_eq!(condition(&fake, "person", "Approved"), None);
    })
    .await;
}

/// Who else reads the text may find another request in it: neither is signed. What is signed is what was judged, not read again.
#[tokio::test]
async fn what_is_judged_is_what_is_signed() {
    let fake = Fake::default();
    let (good, evil) = (pem("system:node:n1", "system:nodes"), pem("admin", "system:masters"));
    let hidden = format!("x\r{}\r\n{good}", evil.trim_end().replace('\n', "\r"));
    put_pem(
        &fake,
        "hidden",
        request::KUBELET_CLIENT,
        &NODE_USAGES,
        &approved(),
        &hidden,
    );
    put_pem(
        &fake,
        "open",
        request::KUBELET_CLIENT,
        &NODE_USAGES,
        &json!([]),
        &hidden,
    );
    put_pem(
        &fake,
        "plain",
        request::KUBELET_CLIENT,
        &NODE_USAGES,
        &approved(),
        &good,
    );
    fake.allow();
    let sign: Sign = Arc::new(|der, _, _| Ok(Facts::read(der)?.common_name));
    with_controller(&fake, sign, async {
        assert_eq!(fake.until(|fake| signed(fake, "plain")).await, "system:node:n1");
        let failed = fake.until(|fake| condition(fake, "hidden", "Failed")).await;
        assert_eq!(failed["reason"], "SignerValidationFailure");
        assert_eq!(signed(&fake, "hidden"), None);
        assert_eq!(condition(&fake, "open", "Approved"), None);
    })
    .await;
}

/// A certificate of two names is for whom its reader takes it for.
#[test]
fn a_request_for_two_is_refused() {
    let mut params = rcgen::CertificateParams::default();
    let name = &mut params.distinguished_name;
    name.push(rcgen::DnType::OrganizationName, "system:nodes");
    name.push(rcgen::DnType::CommonName, "admin");
    name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]), "system:node:n1");
    let key = rcgen::KeyPair::generate().expect("key");
    let request = params.serialize_request(&key).expect("request");
    let refused = Facts::read(request.der()).unwrap_err();
    assert_eq!(refused, "subject must not have more than one common name");
}

/// A request in this state, so many minutes ago.
fn old(minutes: i64, kinds: &[&str], certificate: Option<&str>) -> CertificateSigningRequest {
    let at = Timestamp::UNIX_EPOCH - SignedDuration::from_mins(minutes);
    let mut request = CertificateSigningRequest::default();
    request.metadata.creation_timestamp = Some(Time(at));
    for kind in kinds {
        add(&mut request, kind, "", "");
    }
    let status = request.status.get_or_insert_default();
    status.certificate = certificate.map(|text| ByteString(text.as_bytes().to_vec()));
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_update_time = Some(Time(at));
    }
    request
}

#[test]
fn requests_that_have_served_go() {
    let is_over = |request: &CertificateSigningRequest| end(request).is_some_and(|at| at < Timestamp::UNIX_EPOCH);
    let garbage = Some("garbage");
    assert!(!is_over(&old(23 * 60, &[], None)), "somebody may still answer");
    assert!(is_over(&old(25 * 60, &[], None)));
    assert!(!is_over(&old(50, &["Denied"], None)));
    assert!(is_over(&old(70, &["Denied"], None)));
    assert!(!is_over(&old(50, &["Approved"], garbage)));
    assert!(is_over(&old(70, &["Approved"], garbage)));
    assert!(!is_over(&old(70, &["Approved"], None)), "it is not signed yet");
    assert!(is_over(&old(70, &["Approved", "Failed"], None)));
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1960, 1, 1);
    params.not_after = rcgen::date_time_ymd(1969, 1, 1);
    let key = rcgen::KeyPair::generate().expect("key");
    let expired = params.self_signed(&key).expect("certificate").pem();
    assert!(is_over(&old(1, &["Approved"], Some(&expired))));
}

#[tokio::test]
async fn they_are_deleted() {
    let fake = Fake::default();
    let denied = json!([{ "type": "Denied", "status": "True", "lastUpdateTime": "2020-01-01T00:00:00Z" }]);
    put(&fake, "old", request::CLIENT, &["client auth"], &denied);
    put(&fake, "new", request::CLIENT, &["client auth"], &json!([]));
    with_controller(&fake, echo(), async {
        fake.until(|fake| fake.get(REQUESTS, "", "old").is_none().then_some(()))
            .await;
        assert!(fake.get(REQUESTS, "", "new").is_some());
    })
    .await;
}

#[tokio::test]
async fn a_request_that_changed_meanwhile_stays() {
    let fake = Fake::default();
    put(&fake, "r", request::CLIENT, &["client auth"], &json!([]));
    let requests: Api<CertificateSigningRequest> = Api::all(fake.client());
    let read = requests.get("r").await.expect("a request");
    let mut changed = fake.get(REQUESTS, "", "r").expect("a request");
    changed["metadata"]["labels"] = json!({ "a": "b" });
    fake.put(REQUESTS, changed);
    let late = Timestamp::now() + SignedDuration::from_hours(25);
    let refused = clean(&requests, &read, late).await.unwrap_err();
    assert!(is_conflict(&refused), "{refused}");
    assert!(fake.get(REQUESTS, "", "r").is_some());
}
