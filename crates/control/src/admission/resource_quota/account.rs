//! May a namespace have one more of these? Pure.

use crate::kinds::quota::{Amounts, Counter, Scope, Subject, add, masked, subtract, without_zeros};
use k8s_openapi::jiff::Timestamp;

/// The numbers of one quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) scopes: Vec<Scope>,
    /// What the recount has acknowledged; empty before the first one.
    pub(super) hard: Amounts,
    pub(super) used: Amounts,
}

/// What is about to be written.
pub(super) struct Request<'a> {
    pub(super) counter: &'a Counter,
    pub(super) new: Subject<'a>,
    pub(super) old: Option<Subject<'a>>,
    /// Statuses are charged but never refused.
    pub(super) to_status: bool,
    pub(super) now: Timestamp,
}

/// The accounts after the request. An error is the reason of a refusal; then nothing is charged.
pub(super) fn charge(accounts: &[Account], request: &Request<'_>) -> Result<Vec<Account>, String> {
    let counter = request.counter;
    let mut charged = accounts.to_vec();
    let mut concerned = Vec::new();
    for (index, account) in accounts.iter().enumerate() {
        let names: Vec<&str> = account
            .hard
            .keys()
            .map(String::as_str)
            .filter(|name| counter.counts(name))
            .collect();
        if names.is_empty() || !counter.in_scopes(&account.scopes, request.new) {
            continue;
        }
        counter
            .check_stated(names.iter().copied(), request.new)
            .map_err(|why| format!("failed quota: {}: {why}", account.name))?;
        if names.iter().any(|name| !account.used.contains_key(*name)) {
            return Err(format!(
                "status unknown for quota: {}, resources: {}",
                account.name,
                names.join(",")
            ));
        }
        concerned.push(index);
    }
    if concerned.is_empty() {
        return Ok(charged);
    }
    let usage = counter.usage(request.new, request.now);
    let negative: Vec<&str> = usage
        .iter()
        .filter(|(_, quantity)| quantity.is_negative())
        .map(|(name, _)| name.as_str())
        .collect();
    if !negative.is_empty() {
        return Err(format!(
            "quota usage is negative for resource(s): {}",
            negative.join(",")
        ));
    }
    for index in concerned {
        let account = &mut charged[index];
        let before = request.old.filter(|old| counter.in_scopes(&account.scopes, *old));
        let grown = match before {
            Some(old) => subtract(usage.clone(), &counter.usage(old, request.now)),
            None => usage.clone(),
        };
        let requested = masked(&without_zeros(grown), &account.hard);
        let used = add(account.used.clone(), &requested);
        let exceeded: Amounts = requested
            .iter()
            .filter(|(name, _)| used.get(*name) > account.hard.get(*name))
            .map(|(name, quantity)| (name.clone(), *quantity))
            .collect();
        if !exceeded.is_empty() && !request.to_status {
            return Err(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                account.name,
                shown(&exceeded),
                shown(&masked(&account.used, &exceeded)),
                shown(&masked(&account.hard, &exceeded)),
            ));
        }
        account.used = used;
    }
    Ok(charged)
}

/// `pods=1,requests.cpu=500m`.
fn shown(amounts: &Amounts) -> String {
    let each: Vec<String> = amounts
        .iter()
        .map(|(name, quantity)| format!("{name}={quantity}"))
        .collect();
    each.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::quota::of_wire;
    use expect_test::{Expect, expect};
    use k8s_openapi::api::core::v1::{Pod, Service};
    use serde_json::{Value, json};

    fn account(name: &str, hard: Value, used: Value) -> Account {
        let amounts = |value| of_wire(Some(&serde_json::from_value(value).unwrap()));
        Account {
            name: name.to_owned(),
            scopes: Vec::new(),
            hard: amounts(hard),
            used: amounts(used),
        }
    }

    fn check(accounts: &[Account], counter: &Counter, new: Subject<'_>, old: Option<Subject<'_>>, expected: &Expect) {
        let request = Request {
            counter,
            new,
            old,
            to_status: false,
            now: Timestamp::UNIX_EPOCH,
        };
        let text = match charge(accounts, &request) {
            Err(why) => why,
            Ok(accounts) => {
                let each: Vec<String> = accounts
                    .iter()
                    .map(|account| format!("{}: {}", account.name, shown(&account.used)))
                    .collect();
                each.join("; ")
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn pods_are_charged_to_every_quota_that_is_about_them() {
        let pods = Counter::of("", "pods");
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "500m"}}}]}}))
        .unwrap();
        let new = Subject::Pod(&pod);
        let count = account(
            "count",
            json!({"pods": "2", "services": "1"}),
            json!({"pods": "1", "services": "1"}),
        );
        let cpu = account("cpu", json!({"requests.cpu": "1"}), json!({"requests.cpu": "500m"}));
        let memory = account("memory", json!({"limits.memory": "1Gi"}), json!({"limits.memory": "0"}));
        let secrets = account("secrets", json!({"secrets": "0"}), json!({"secrets": "0"}));
        check(
            &[count.clone(), cpu.clone(), secrets.clone()],
            &pods,
            new,
            None,
            &expect!["count: pods=2,services=1; cpu: requests.cpu=1; secrets: secrets=0"],
        );
        let full = account(
            "full",
            json!({"pods": "2", "count/pods": "5"}),
            json!({"pods": "2", "count/pods": "2"}),
        );
        check(
            &[full, cpu],
            &pods,
            new,
            None,
            &expect!["exceeded quota: full, requested: pods=1, used: pods=2, limited: pods=2"],
        );
        check(
            &[count, memory],
            &pods,
            new,
            None,
            &expect!["failed quota: memory: must specify limits.memory for: a"],
        );
        let unknown = account("young", json!({"pods": "2", "requests.cpu": "1"}), json!({"pods": "0"}));
        check(
            &[unknown],
            &pods,
            new,
            None,
            &expect!["status unknown for quota: young, resources: pods,requests.cpu"],
        );
        check(
            &[account("fresh", json!({}), json!({}))],
            &pods,
            new,
            None,
            &expect!["fresh: "],
        );
    }

    #[test]
    fn updates_are_charged_for_the_difference() {
        let services = Counter::of("", "services");
        let service = |type_: &str| -> Service {
            serde_json::from_value(json!({"spec": {"type": type_, "ports": [{"port": 1}, {"port": 2}]}})).unwrap()
        };
        let (plain, node) = (service("ClusterIP"), service("NodePort"));
        let quota = account(
            "q",
            json!({"services": "1", "services.nodeports": "1"}),
            json!({"services": "1", "services.nodeports": "0"}),
        );
        let accounts = [quota];
        check(
            &accounts,
            &services,
            Subject::Service(&plain),
            Some(Subject::Service(&node)),
            &expect!["q: services=1,services.nodeports=0"],
        );
        check(
            &accounts,
            &services,
            Subject::Service(&node),
            Some(Subject::Service(&plain)),
            &expect![
                "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"
            ],
        );
        check(
            &accounts,
            &services,
            Subject::Service(&plain),
            None,
            &expect!["exceeded quota: q, requested: services=1, used: services=1, limited: services=1"],
        );
    }
}
