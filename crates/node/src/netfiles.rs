//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod, as text. Pure.

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};
use std::collections::BTreeSet;
use std::net::IpAddr;

const MAX_HOSTNAME: usize = 63;
/// glibc reads no more.
const MAX_NAMESERVERS: usize = 3;

/// The host name inside the pod (`spec.hostname`, else the pod's name, cut to what the kernel takes).
pub(crate) fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let meta = &pod.metadata;
    if let Some(name) = spec.and_then(|spec| spec.hostname_override.clone()) {
        return name;
    }
    let short = spec
        .and_then(|spec| spec.hostname.clone())
        .filter(|name| !name.is_empty());
    let short = truncate(&short.unwrap_or_else(|| meta.name.clone().unwrap_or_default()));
    match spec
        .filter(|spec| spec.set_hostname_as_fqdn == Some(true))
        .and_then(|_| domain(pod))
    {
        Some(domain) => format!("{short}.{domain}"),
        None => short,
    }
}

/// `subdomain.namespace.svc.cluster.local` when the pod has a subdomain.
fn domain(pod: &Pod) -> Option<String> {
    let subdomain = pod
        .spec
        .as_ref()?
        .subdomain
        .as_ref()
        .filter(|subdomain| !subdomain.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    Some(format!("{subdomain}.{namespace}.svc.cluster.local"))
}

fn truncate(name: &str) -> String {
    let cut: String = name.chars().take(MAX_HOSTNAME).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The managed hosts file, with `spec.hostAliases`.
pub(crate) fn hosts(pod: &Pod, ip: IpAddr) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let host = hostname(pod);
    let short = host.split('.').next().unwrap_or(&host);
    match domain(pod) {
        Some(domain) => text.push_str(&format!("{ip}\t{short}.{domain}\t{short}\n")),
        None => text.push_str(&format!("{ip}\t{host}\n")),
    }
    let aliases = pod.spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten());
    let lines: Vec<_> = aliases
        .map(|alias| {
            format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.clone().unwrap_or_default().join("\t")
            )
        })
        .collect();
    if !lines.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        text.extend(lines);
    }
    text
}

/// What a resolver configuration consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub nameservers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads `resolv.conf`; unknown lines are left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => resolver.searches = words.map(str::to_owned).collect(),
                Some("options") => resolver.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        resolver
    }

    fn add(&mut self, config: &PodDNSConfig) {
        let mut seen: BTreeSet<_> = self.nameservers.iter().cloned().collect();
        self.nameservers.extend(
            config
                .nameservers
                .iter()
                .flatten()
                .filter(|n| seen.insert((*n).clone()))
                .cloned(),
        );
        let mut seen: BTreeSet<_> = self.searches.iter().cloned().collect();
        self.searches.extend(
            config
                .searches
                .iter()
                .flatten()
                .filter(|s| seen.insert((*s).clone()))
                .cloned(),
        );
        for option in config.options.iter().flatten() {
            let Some(name) = option.name.as_deref() else { continue };
            let text = option
                .value
                .as_ref()
                .map_or_else(|| name.to_owned(), |value| format!("{name}:{value}"));
            self.options.retain(|known| known.split(':').next() != Some(name));
            self.options.push(text);
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for nameserver in self.nameservers.iter().take(MAX_NAMESERVERS) {
            text.push_str(&format!("nameserver {nameserver}\n"));
        }
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// The pod's resolver configuration. Without a cluster DNS `ClusterFirst` is what `Default` is: the host's, minus name
/// servers on the host's loopback, which a pod could not reach.
pub(crate) fn resolv_conf(pod: &Pod, host: &str) -> String {
    let spec = pod.spec.as_ref();
    let mut resolver = match spec.and_then(|spec| spec.dns_policy.as_deref()) {
        Some("None") => Resolver::default(),
        _ => Resolver::parse(host),
    };
    let loopback = |address: &String| address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    resolver.nameservers.retain(|address| !loopback(address));
    if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        resolver.add(config);
    }
    resolver.text()
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "cases are written as literals")]
mod tests {
    use super::*;
    use expect_test::expect;

    fn pod(spec: serde_json::Value) -> Pod {
        let meta = serde_json::json!({"name": "web-0", "namespace": "shop", "uid": "u"});
        serde_json::from_value(serde_json::json!({"metadata": meta, "spec": spec})).expect("a pod")
    }

    #[test]
    fn hosts_has_the_pod_and_its_aliases() {
        let pod = pod(serde_json::json!({"containers": [], "subdomain": "db",
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["a.example", "a"]}]}));
        let text = hosts(&pod, "10.42.0.7".parse().expect("an address"));
        let own: Vec<_> = text.lines().skip(7).collect();
        expect!["10.42.0.7\tweb-0.db.shop.svc.cluster.local\tweb-0\n\n# Entries added by HostAliases.\n10.1.2.3\ta.example\ta"]
            .assert_eq(&own.join("\n"));
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
    }

    #[test]
    fn resolver_merges_policy_and_config() {
        let host = "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch lan\noptions ndots:1 edns0\n";
        let default = pod(serde_json::json!({"containers": [], "dnsPolicy": "ClusterFirst"}));
        expect![[r#"
            nameserver 192.0.2.1
            search lan
            options ndots:1 edns0
        "#]]
        .assert_eq(&resolv_conf(&default, host));
        let own = pod(serde_json::json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1", "1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}));
        expect![[r#"
            nameserver 1.1.1.1
            search a.b
            options ndots:2 edns0
        "#]]
        .assert_eq(&resolv_conf(&own, host));
    }

    #[test]
    fn long_names_are_cut_without_a_dangling_dash() {
        let mut long = pod(serde_json::json!({"containers": []}));
        long.metadata.name = Some(format!("{}-tail", "a".repeat(62)));
        assert_eq!(hostname(&long), "a".repeat(62));
    }
}
