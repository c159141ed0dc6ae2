//! Who a container runs as: `runAsUser`, the image's `USER`, and the image's `/etc/passwd` and `/etc/group`.
//!
//! Parsing is pure; reading the two files is [`crate::layers`]' business.

use crate::layers;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::path::PathBuf;

/// Enough for any honest account file.
const ACCOUNT_FILE_LIMIT: u64 = 1 << 20;

/// The identity of a container's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: Option<String>,
}

/// `/etc/passwd` and `/etc/group` of an image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub passwd: String,
    pub group: String,
}

impl Accounts {
    /// Reads them from the image; what cannot be read is empty.
    pub(crate) fn read(lower_dirs: &[PathBuf]) -> Self {
        let text = |path| layers::read_text(lower_dirs, path, ACCOUNT_FILE_LIMIT).unwrap_or_default();
        Self {
            passwd: text("/etc/passwd"),
            group: text("/etc/group"),
        }
    }

    fn user(&self, matches: impl Fn(&Entry<'_>) -> bool) -> Option<Entry<'_>> {
        self.passwd.lines().filter_map(Entry::passwd).find(matches)
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        self.group.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
        })
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let member = |line: &str| {
            let mut fields = line.split(':');
            let id = fields.nth(2)?.parse().ok()?;
            fields.next()?.split(',').any(|name| name.trim() == user).then_some(id)
        };
        self.group.lines().filter_map(member).collect()
    }
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    fn passwd(line: &'a str) -> Option<Self> {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else {
            return None;
        };
        Some(Self {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home,
        })
    }
}

/// Resolves the identity of `container`, whose image says `image_user`.
///
/// # Errors
/// The message of a `CreateContainerConfigError`: an unknown user, or `runAsNonRoot` not kept.
pub(crate) fn resolve(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    accounts: &Accounts,
) -> Result<Identity, String> {
    let pod_security = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let security = container.security_context.as_ref();
    let run_as_user = security
        .and_then(|s| s.run_as_user)
        .or_else(|| pod_security.and_then(|s| s.run_as_user));
    let run_as_group = security
        .and_then(|s| s.run_as_group)
        .or_else(|| pod_security.and_then(|s| s.run_as_group));
    let non_root = security
        .and_then(|s| s.run_as_non_root)
        .or_else(|| pod_security.and_then(|s| s.run_as_non_root));
    let (user, group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let at = || format!("(pod: \"{}\", container: {})", crate::pod_ref(pod), container.name);
    if non_root == Some(true) {
        match run_as_user {
            Some(0) => return Err(format!("container's runAsUser breaks non-root policy {}", at())),
            Some(_) => {}
            None if user.is_empty() || user.parse() == Ok(0_u32) => {
                return Err(format!(
                    "container has runAsNonRoot and image will run as root {}",
                    at()
                ));
            }
            None if user.parse::<u32>().is_err() => {
                let why = format!("image has non-numeric user ({user}), cannot verify user is non-root");
                return Err(format!("container has runAsNonRoot and {why} {}", at()));
            }
            None => {}
        }
    }
    let mut identity = match run_as_user {
        Some(uid) => {
            let uid = u32::try_from(uid).map_err(|_| format!("runAsUser {uid} is out of range"))?;
            by_uid(uid, accounts)
        }
        None => by_image_user(user, accounts)?,
    };
    if let Some(gid) = run_as_group {
        identity.gid = u32::try_from(gid).map_err(|_| format!("runAsGroup {gid} is out of range"))?;
    } else if run_as_user.is_none() && !group.is_empty() {
        let gid = group.parse().ok().or_else(|| accounts.group_id(group));
        identity.gid = gid.ok_or_else(|| format!("unable to find group {group}: no matching entries in group file"))?;
    }
    if pod_security.and_then(|s| s.supplemental_groups_policy.as_deref()) == Some("Strict") {
        identity.groups.clear();
    }
    let asked = pod_security
        .into_iter()
        .flat_map(|s| s.supplemental_groups.iter().flatten().chain(s.fs_group.iter()));
    for gid in asked {
        identity
            .groups
            .push(u32::try_from(*gid).map_err(|_| format!("group {gid} is out of range"))?);
    }
    identity.groups.sort_unstable();
    identity.groups.dedup();
    Ok(identity)
}

fn by_uid(uid: u32, accounts: &Accounts) -> Identity {
    match accounts.user(|entry| entry.uid == uid) {
        Some(entry) => from_entry(&entry, accounts),
        None => Identity {
            uid,
            ..Identity::default()
        },
    }
}

fn by_image_user(user: &str, accounts: &Accounts) -> Result<Identity, String> {
    if user.is_empty() {
        return Ok(by_uid(0, accounts));
    }
    if let Some(entry) = accounts.user(|entry| entry.name == user) {
        return Ok(from_entry(&entry, accounts));
    }
    match user.parse() {
        Ok(uid) => Ok(by_uid(uid, accounts)),
        Err(_) => Err(format!(
            "unable to find user {user}: no matching entries in passwd file"
        )),
    }
}

fn from_entry(entry: &Entry<'_>, accounts: &Accounts) -> Identity {
    Identity {
        uid: entry.uid,
        gid: entry.gid,
        groups: accounts.groups_of(entry.name),
        home: Some(entry.home.to_owned()).filter(|home| !home.is_empty()),
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "cases are written as literals")]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(pod: serde_json::Value, container: serde_json::Value, image_user: &str, expected: &Expect) {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u1"},
            "spec": {"containers": [], "securityContext": pod}
        }))
        .expect("a pod");
        let container = serde_json::from_value(serde_json::json!({"name": "c", "securityContext": container}));
        let accounts = Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv/web:/bin/false\nbroken\n".into(),
            group: "root:x:0:\nweb:x:33:\nlogs:x:4:web,root\nstaff:x:50:\n".into(),
        };
        let text = match resolve(&pod, &container.expect("a container"), image_user, &accounts) {
            Ok(identity) => format!(
                "{} {} {:?} {:?}",
                identity.uid, identity.gid, identity.groups, identity.home
            ),
            Err(message) => message,
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn follows_image_then_security_context() {
        let none = || serde_json::json!({});
        check(none(), none(), "", &expect![[r#"0 0 [4] Some("/root")"#]]);
        check(none(), none(), "web", &expect![[r#"33 33 [4] Some("/srv/web")"#]]);
        check(none(), none(), "web:staff", &expect![[r#"33 50 [4] Some("/srv/web")"#]]);
        check(none(), none(), "1000", &expect!["1000 0 [] None"]);
        check(none(), none(), "1000:1001", &expect!["1000 1001 [] None"]);
        check(
            none(),
            none(),
            "ghost",
            &expect!["unable to find user ghost: no matching entries in passwd file"],
        );
        check(
            serde_json::json!({"runAsUser": 33, "runAsGroup": 7, "fsGroup": 2000, "supplementalGroups": [5]}),
            none(),
            "ghost",
            &expect![[r#"33 7 [4, 5, 2000] Some("/srv/web")"#]],
        );
        check(
            serde_json::json!({"runAsUser": 1}),
            serde_json::json!({"runAsUser": 2}),
            "",
            &expect!["2 0 [] None"],
        );
    }

    #[test]
    fn keeps_run_as_non_root() {
        let non_root = || serde_json::json!({"runAsNonRoot": true});
        check(
            non_root(),
            serde_json::json!({}),
            "",
            &expect![[r#"container has runAsNonRoot and image will run as root (pod: "p_ns(u1)", container: c)"#]],
        );
        check(
            non_root(),
            serde_json::json!({}),
            "web",
            &expect![[
                r#"container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root (pod: "p_ns(u1)", container: c)"#
            ]],
        );
        check(
            non_root(),
            serde_json::json!({"runAsUser": 0}),
            "",
            &expect![[r#"container's runAsUser breaks non-root policy (pod: "p_ns(u1)", container: c)"#]],
        );
        check(non_root(), serde_json::json!({}), "1000", &expect!["1000 0 [] None"]);
    }
}
