//! Which ports are meant, and of which pod: numbers, names, and a service's own numbers. Pure.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use std::cmp::Reverse;
use std::str::FromStr;

/// A word of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `None`: the same as the remote one, if that is a number. 0: any.
    local: Option<u16>,
    remote: String,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (local, remote) = match word.split_once(':') {
            None => (None, word),
            Some(("", remote)) => (Some(0), remote),
            Some((local, remote)) => {
                let parsed = local.parse::<u16>();
                (
                    Some(parsed.map_err(|_| format!("error parsing local port '{local}'"))?),
                    remote,
                )
            }
        };
        if remote.is_empty() || remote.contains(':') || remote == "0" {
            return Err(format!("invalid port format '{word}'"));
        }
        let remote = remote.to_owned();
        Ok(Self { local, remote })
    }
}

/// A local port and the pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forward {
    pub(super) local: u16,
    pub(super) remote: u16,
}

/// # Errors
/// A name or a service's port that is not there.
pub(super) fn resolve(wanted: &[Wanted], pod: &Value, service: Option<&Value>) -> Result<Vec<Forward>> {
    let one = |wanted: &Wanted| {
        let (asked, remote) = match service {
            Some(service) => of_service(&wanted.remote, service, pod)?,
            None => {
                let remote = of_pod(&wanted.remote, pod)?;
                (remote, remote)
            }
        };
        let local = wanted.local.unwrap_or(asked);
        Ok(Forward { local, remote })
    };
    wanted.iter().map(one).collect()
}

/// The number of a service's port, and of the pod's behind it.
fn of_service(word: &str, service: &Value, pod: &Value) -> Result<(u16, u16)> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let mut ports = ports.filter(|port| port["protocol"].as_str().unwrap_or("TCP") == "TCP");
    let found = match word.parse::<u16>() {
        Ok(number) => ports.find(|port| port["port"] == number),
        Err(_) => ports.find(|port| port["name"] == *word),
    };
    let port = found.with_context(|| format!("Service {name} does not have a service port {word}"))?;
    let own = number(&port["port"]).context("the service's port is no port")?;
    let remote = match &port["targetPort"] {
        Value::String(name) => of_pod(name, pod)?,
        // A service without an address of its own is not translated, nor one that says nothing else.
        _ if service["spec"]["clusterIP"] == "None" => own,
        target => number(target).filter(|target| *target != 0).unwrap_or(own),
    };
    Ok((own, remote))
}

fn of_pod(word: &str, pod: &Value) -> Result<u16> {
    if let Ok(number) = word.parse::<u16>() {
        return Ok(number);
    }
    let containers = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
    let ports = containers
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|container| container["ports"].as_array())
        .flatten();
    for port in ports {
        if port["name"] == *word && port["protocol"].as_str().unwrap_or("TCP") == "TCP" {
            return number(&port["containerPort"]).context("the container's port is no port");
        }
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    bail!("Pod '{name}' does not have a named port '{word}'")
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok())
}

/// The label selector of whatever has one, as a query says it.
pub(super) fn selector(object: &Value) -> Option<String> {
    let selector = object["spec"]["selector"].as_object()?;
    let is_plain = !selector.contains_key("matchLabels") && !selector.contains_key("matchExpressions");
    let mut terms = Vec::new();
    let labels = if is_plain {
        Some(selector)
    } else {
        selector.get("matchLabels").and_then(Value::as_object)
    };
    terms.extend(labels.into_iter().flat_map(equalities));
    let expressions = selector.get("matchExpressions").filter(|_| !is_plain);
    for expression in expressions.and_then(Value::as_array).into_iter().flatten() {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        terms.push(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!terms.is_empty()).then(|| terms.join(","))
}

fn equalities(labels: &Map<String, Value>) -> impl Iterator<Item = String> {
    labels
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
}

/// Ready before running before the rest, the oldest first.
pub(super) fn suitability(pod: &Value) -> (bool, bool, bool, Reverse<String>) {
    let status = &pod["status"];
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let ready = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let staying = pod["metadata"]["deletionTimestamp"].is_null();
    let created = pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
    (
        ready,
        status["phase"] == "Running",
        staying,
        Reverse(created.to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resolved(words: &[&str], service: Option<&Value>) -> Result<Vec<(u16, u16)>, String> {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "web", "containerPort": 8080}]}]}});
        let wanted: Result<Vec<Wanted>, String> = words.iter().map(|word| word.parse()).collect();
        let forwards = resolve(&wanted?, &pod, service).map_err(|error| error.to_string())?;
        Ok(forwards.iter().map(|forward| (forward.local, forward.remote)).collect())
    }

    #[test]
    fn ports_of_pods() {
        let all = resolved(&["80", "8888:80", ":80", "web", "9:web"], None);
        assert_eq!(all, Ok(vec![(80, 80), (8888, 80), (0, 80), (8080, 8080), (9, 8080)]));
        let refused = |word: &str| resolved(&[word], None).expect_err("refused");
        assert_eq!(refused("dns"), "Pod 'p' does not have a named port 'dns'");
        assert_eq!(refused("x:80"), "error parsing local port 'x'");
        assert_eq!(refused("80:"), "invalid port format '80:'");
        assert_eq!(refused("1:2:3"), "invalid port format '1:2:3'");
    }

    #[test]
    fn ports_of_services_are_their_own_numbers() {
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [
            {"name": "a", "port": 80, "targetPort": "web"}, {"name": "b", "port": 443, "targetPort": 8443}, {"port": 7}]}});
        let of = |words: &[&str]| resolved(words, Some(&service));
        assert_eq!(
            of(&["80", ":443", "b", "7"]),
            Ok(vec![(80, 8080), (0, 8443), (443, 8443), (7, 7)])
        );
        let refused = of(&["81"]).expect_err("refused");
        assert_eq!(refused, "Service s does not have a service port 81");
    }

    #[test]
    fn selectors_of_all_shapes() {
        let of = |selector: Value| super::selector(&json!({"spec": {"selector": selector}}));
        assert_eq!(
            of(json!({"app": "web", "tier": "x"})).as_deref(),
            Some("app=web,tier=x")
        );
        let full = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["1", "2"]}, {"key": "b", "operator": "DoesNotExist"}]});
        assert_eq!(of(full).as_deref(), Some("app=web,a in (1,2),!b"));
        assert_eq!(of(Value::Null), None);
        assert_eq!(of(json!({})), None);
    }
}
