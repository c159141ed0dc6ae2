//! What a signing request asks for, and what each signer of Kubernetes' own demands of it: pure.
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers>

use catamaran_kinds::signing::{self, Subject};
use std::collections::BTreeSet;
use x509_parser::extensions::{GeneralName, ParsedExtension};

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
    /// Of a request, DER.
    ///
    /// # Errors
    /// Why nobody can tell what it asks for.
    pub(super) fn read(der: &[u8]) -> Result<Facts, String> {
        let parsed = signing::parse(der)?;
        let subject = Subject::read(&parsed.certification_request_info.subject)?;
        subject.check_unambiguous()?;
        let mut facts = Facts {
            common_name: subject.user().to_owned(),
            organizations: subject.organizations,
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
        Ok(facts)
    }
}

/// Is it for us to sign for it?
pub(super) fn is_ours(signer: &str) -> bool {
    [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY].contains(&signer)
}

/// Does the signer, one of ours, sign such a request?
pub(super) fn judge(signer: &str, facts: &Facts, usages: &[String]) -> Result<(), String> {
    match signer {
        CLIENT => client(usages),
        KUBELET_CLIENT => kubelet_client(facts, usages),
        KUBELET_SERVING => kubelet_serving(facts, usages),
        LEGACY => Ok(()),
        _ => Err("the signer is none of this cluster's own".to_owned()),
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
        assert_eq!(
            judge(signer, facts, &usages(asked)),
            expected.map_err(ToOwned::to_owned)
        );
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
        assert!(is_ours(CLIENT) && !is_ours("example.com/mine"));
        judge("example.com/mine", &anybody, &[]).expect_err("none of ours");
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
