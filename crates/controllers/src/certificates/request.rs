//! What a signing request asks for, and what each signer of Kubernetes' own demands of it: pure.
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers>

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use std::collections::BTreeSet;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";
const SIGNATURE: &str = "digital signature";
const ENCIPHERMENT: &str = "key encipherment";
const CLIENT_AUTH: &str = "client auth";
const SERVER_AUTH: &str = "server auth";

/// Of the request inside the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) common_name: String,
    organizations: Vec<String>,
    hosts: bool,
    mailboxes: bool,
    addresses: bool,
    uris: bool,
}

impl Facts {
    /// `None` if it is no request.
    pub(super) fn read(request: &CertificateSigningRequest) -> Option<Facts> {
        let pem = Pem::iter_from_buffer(&request.spec.request.0).next()?.ok()?;
        if pem.label != "CERTIFICATE REQUEST" {
            return None;
        }
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        let subject = &parsed.certification_request_info.subject;
        let organizations = subject.iter_organization().filter_map(|name| name.as_str().ok());
        let common_names = subject.iter_common_name().filter_map(|name| name.as_str().ok());
        let mut facts = Facts {
            common_name: common_names.last().unwrap_or_default().to_owned(),
            organizations: organizations.map(ToOwned::to_owned).collect(),
            ..Facts::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else {
                continue;
            };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(_) => facts.hosts = true,
                    GeneralName::RFC822Name(_) => facts.mailboxes = true,
                    GeneralName::IPAddress(_) => facts.addresses = true,
                    GeneralName::URI(_) => facts.uris = true,
                    _ => {}
                }
            }
        }
        Some(facts)
    }
}

/// Does the signer sign such a request? `None` for signers that are none of ours.
pub(super) fn judge(signer: &str, facts: &Facts, usages: &[String]) -> Option<Result<(), String>> {
    match signer {
        CLIENT => Some(client(usages)),
        KUBELET_CLIENT => Some(kubelet_client(facts, usages)),
        KUBELET_SERVING => Some(kubelet_serving(facts, usages)),
        LEGACY => Some(Ok(())),
        _ => None,
    }
}

fn client(usages: &[String]) -> Result<(), String> {
    for usage in usages {
        if ![SIGNATURE, ENCIPHERMENT, CLIENT_AUTH].contains(&usage.as_str()) {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    if usages.iter().any(|usage| usage == CLIENT_AUTH) {
        Ok(())
    } else {
        Err(format!("missing required usage for client certificate: {CLIENT_AUTH}"))
    }
}

pub(super) fn kubelet_client(facts: &Facts, usages: &[String]) -> Result<(), String> {
    organization(facts)?;
    let refused = [
        (facts.hosts, "DNS"),
        (facts.mailboxes, "Email"),
        (facts.addresses, "IP"),
        (facts.uris, "URI"),
    ];
    if let Some((_, what)) = refused.iter().find(|(there, _)| *there) {
        return Err(format!("{what} subjectAltNames are not allowed"));
    }
    common_name(facts)?;
    exactly(usages, CLIENT_AUTH)
}

fn kubelet_serving(facts: &Facts, usages: &[String]) -> Result<(), String> {
    organization(facts)?;
    if !facts.hosts && !facts.addresses {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    if let Some((_, what)) = [(facts.mailboxes, "Email"), (facts.uris, "URI")]
        .iter()
        .find(|(there, _)| *there)
    {
        return Err(format!("{what} subjectAltNames are not allowed"));
    }
    exactly(usages, SERVER_AUTH)?;
    common_name(facts)
}

fn organization(facts: &Facts) -> Result<(), String> {
    if facts.organizations == [NODES] {
        return Ok(());
    }
    Err(format!("subject organization is not {NODES}"))
}

fn common_name(facts: &Facts) -> Result<(), String> {
    if facts.common_name.starts_with(NODE) {
        return Ok(());
    }
    Err(format!("subject common name does not begin with {NODE}"))
}

/// These usages and no others; keys other than RSA's do without encipherment.
fn exactly(usages: &[String], auth: &str) -> Result<(), String> {
    let asked: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let all = BTreeSet::from([SIGNATURE, ENCIPHERMENT, auth]);
    if asked == all || asked == BTreeSet::from([SIGNATURE, auth]) {
        return Ok(());
    }
    let all: Vec<&str> = all.into_iter().collect();
    Err(format!("usages did not match [{}]", all.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usages(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn node() -> Facts {
        Facts {
            common_name: "system:node:n1".to_owned(),
            organizations: vec!["system:nodes".to_owned()],
            ..Facts::default()
        }
    }

    #[track_caller]
    fn check(signer: &str, facts: &Facts, asked: &[&str], expected: Result<(), &str>) {
        let judged = judge(signer, facts, &usages(asked)).expect("a signer of ours");
        assert_eq!(judged, expected.map_err(ToOwned::to_owned));
    }

    #[test]
    fn clients_are_clients() {
        let anybody = Facts::default();
        check(CLIENT, &anybody, &["client auth"], Ok(()));
        check(
            CLIENT,
            &anybody,
            &["client auth", "digital signature", "key encipherment"],
            Ok(()),
        );
        let serving = Err("invalid usage for client certificate: server auth");
        check(CLIENT, &anybody, &["client auth", "server auth"], serving);
        let missing = Err("missing required usage for client certificate: client auth");
        check(CLIENT, &anybody, &["digital signature"], missing);
        check(LEGACY, &anybody, &["server auth"], Ok(()));
        assert_eq!(judge("example.com/mine", &anybody, &[]), None);
    }

    #[test]
    fn nodes_say_which_they_are() {
        let asked = ["digital signature", "key encipherment", "client auth"];
        check(KUBELET_CLIENT, &node(), &asked, Ok(()));
        check(KUBELET_CLIENT, &node(), &["digital signature", "client auth"], Ok(()));
        let usages = Err("usages did not match [client auth digital signature key encipherment]");
        check(KUBELET_CLIENT, &node(), &["client auth"], usages);
        let stranger = Facts {
            organizations: vec!["system:nodes".to_owned(), "system:masters".to_owned()],
            ..node()
        };
        check(
            KUBELET_CLIENT,
            &stranger,
            &asked,
            Err("subject organization is not system:nodes"),
        );
        let nobody = Facts {
            common_name: "n1".to_owned(),
            ..node()
        };
        let nameless = Err("subject common name does not begin with system:node:");
        check(KUBELET_CLIENT, &nobody, &asked, nameless);
        let named = Facts { hosts: true, ..node() };
        check(
            KUBELET_CLIENT,
            &named,
            &asked,
            Err("DNS subjectAltNames are not allowed"),
        );
    }

    #[test]
    fn servers_of_nodes_say_where_they_are() {
        let asked = ["digital signature", "key encipherment", "server auth"];
        check(
            KUBELET_SERVING,
            &node(),
            &asked,
            Err("DNS or IP subjectAltName is required"),
        );
        let placed = Facts {
            addresses: true,
            ..node()
        };
        check(KUBELET_SERVING, &placed, &asked, Ok(()));
        let mailbox = Facts {
            mailboxes: true,
            ..placed.clone()
        };
        check(
            KUBELET_SERVING,
            &mailbox,
            &asked,
            Err("Email subjectAltNames are not allowed"),
        );
        let usages = Err("usages did not match [digital signature key encipherment server auth]");
        check(KUBELET_SERVING, &placed, &["client auth"], usages);
    }
}
