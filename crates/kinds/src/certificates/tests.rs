use crate::golden;
use expect_test::expect;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

const REQUESTS: &str = "certificatesigningrequests.certificates.k8s.io";

fn pem() -> Value {
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .expect("a request");
    serde_json::to_value(ByteString(request.pem().expect("PEM").into_bytes())).expect("JSON")
}

fn request(spec: Value) -> Value {
    json!({"metadata": {"name": "r"}, "spec": spec})
}

fn good() -> Value {
    request(
        json!({"request": pem(), "signerName": "example.com/s", "usages": ["client auth"], "expirationSeconds": 3600, "username": "u"}),
    )
}

#[test]
fn requests() {
    golden::create(REQUESTS, good(), &expect![""]);
    golden::create(
        REQUESTS,
        request(json!({"request": "YQ==", "signerName": ""})),
        &expect![[r#"
        spec.request: Invalid value: "YQ==": PEM block type must be CERTIFICATE REQUEST
        spec.usages: Required value
        spec.signerName: Required value"#]],
    );
    let spec = |signer: &str| json!({"request": pem(), "signerName": signer, "usages": ["flying", "signing", "signing"], "expirationSeconds": 1});
    golden::create(
        REQUESTS,
        request(spec("kubernetes.io/legacy-unknown")),
        &expect![[r#"
        spec.usages[0]: Unsupported value: "flying": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
        spec.usages[2]: Duplicate value: "signing"
        spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version
        spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)"#]],
    );
    golden::create(
        REQUESTS,
        request(spec("a")),
        &expect![[r#"
        spec.usages[0]: Unsupported value: "flying": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
        spec.usages[2]: Duplicate value: "signing"
        spec.signerName: Invalid value: "a": must be a fully qualified domain and path of the form 'example.com/signer-name'
        spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)"#]],
    );
    golden::create(
        REQUESTS,
        request(spec("A/B_")),
        &expect![[r#"
        spec.usages[0]: Unsupported value: "flying": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
        spec.usages[2]: Duplicate value: "signing"
        spec.signerName: Invalid value: "A": validating label "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.signerName: Invalid value: "A": should be a domain with at least two segments separated by dots
        spec.signerName: Invalid value: "B_": validating label "B_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)"#]],
    );
}

#[test]
fn status() {
    let with = |conditions: Value| {
        let mut object = good();
        object["status"] = json!({ "conditions": conditions });
        object
    };
    let approved = json!({"type": "Approved", "status": "True"});
    let denied = json!({"type": "Denied", "status": "False"});
    golden::status(
        REQUESTS,
        with(json!([approved])),
        with(json!([])),
        &expect![[r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#]],
    );
    golden::status(
        REQUESTS,
        with(json!([])),
        with(json!([approved, denied, {"type": "", "status": ""}, approved])),
        &expect![[r#"
        status.conditions[1].status: Unsupported value: "False": supported values: "True"
        status.conditions[1].type: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive
        status.conditions[2].type: Required value
        status.conditions[2].status: Required value
        status.conditions[3].type: Invalid value: "Approved": Approved and Denied conditions are mutually exclusive
        status.conditions[3].type: Duplicate value: "Approved"
        status.conditions: Forbidden: updates may not add a condition of type "Approved"
        status.conditions: Forbidden: updates may not add a condition of type "Denied""#]],
    );
    let mut issued = with(json!([approved]));
    issued["status"]["certificate"] = json!("YQ==");
    golden::status(
        REQUESTS,
        with(json!([approved])),
        issued.clone(),
        &expect![[
            r#"status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block"#
        ]],
    );
    golden::row(
        REQUESTS,
        issued,
        &expect![[r#"
        Name: "r"
        Age: "<unknown>"
        SignerName: "example.com/s"
        Requestor: "u"
        RequestedDuration: "60m"
        Condition: "Approved,Issued""#]],
    );
    golden::row(
        REQUESTS,
        with(json!([denied, {"type": "Failed", "status": "True"}])),
        &expect![[r#"
        Name: "r"
        Age: "<unknown>"
        SignerName: "example.com/s"
        Requestor: "u"
        RequestedDuration: "60m"
        Condition: "Denied,Failed""#]],
    );
}
