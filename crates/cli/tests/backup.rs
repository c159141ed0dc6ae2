//! Backups and keys, with the real program: made while it runs and writes, restored elsewhere, rotated under `kill -9`.

mod common;

use common::{Running, cata, refusal, stdout};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, ResourceExt as _};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn on(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = cata();
    command.arg("--data-dir").arg(data_dir).args(arguments);
    command.env_remove("KUBECONFIG");
    command
}

fn serve(data_dir: &Path) -> Running {
    let mut server = Running::start(&mut on(data_dir, &["server", "--api-port", "0"]));
    server.line("API server at");
    server
}

fn stop(mut server: Running) {
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().0.success());
}

async fn api(data_dir: &Path) -> Api<Secret> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(data_dir.join("kubeconfig")).expect("kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("configuration");
    Api::default_namespaced(kube::Client::try_from(config).expect("client"))
}

fn secret(number: usize) -> Secret {
    Secret {
        metadata: kube::api::ObjectMeta {
            name: Some(format!("s{number:05}")),
            ..Default::default()
        },
        data: Some(BTreeMap::from([(
            "v".to_owned(),
            ByteString(format!("very secret {number}").into_bytes()),
        )])),
        ..Default::default()
    }
}

/// Creates secrets, numbered, until the server does not answer. Returns how many were acknowledged.
async fn write(api: Api<Secret>, from: usize, done: Arc<AtomicUsize>) -> usize {
    for number in from.. {
        if api.create(&PostParams::default(), &secret(number)).await.is_err() {
            return number;
        }
        done.store(number + 1, Ordering::Release);
    }
    unreachable!("numbers do not end")
}

async fn check(api: &Api<Secret>, at_least: usize) {
    let list = api.list(&ListParams::default()).await.expect("list");
    let found: BTreeMap<String, Secret> = list.items.into_iter().map(|item| (item.name_any(), item)).collect();
    for number in 0..at_least {
        let wanted = secret(number);
        let name = wanted.name_any();
        assert_eq!(
            found.get(&name).map(|secret| &secret.data),
            Some(&wanted.data),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_writers_is_a_cluster_elsewhere() {
    let directory = tempfile::tempdir().expect("directory");
    let (here, there, file) = (
        directory.path().join("here"),
        directory.path().join("there"),
        directory.path().join("b.tar.gz"),
    );
    let file_name = file.to_str().expect("UTF-8").to_owned();
    let mut server = serve(&here);
    let done = Arc::new(AtomicUsize::new(0));
    let writer = tokio::spawn(write(api(&here).await, 0, Arc::clone(&done)));
    while done.load(Ordering::Acquire) < 50 {
        tokio::task::yield_now().await;
    }
    let before = done.load(Ordering::Acquire);
    let said = stdout(&mut on(&here, &["backup", &file_name]));
    assert!(said.contains("it holds the cluster's keys"), "{said}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let said = refusal(&mut on(&here, &["backup", &file_name]));
    assert!(said.contains("exists already"), "{said}");
    let said = refusal(&mut on(&here, &["restore", &file_name]));
    assert!(said.contains("another cata already runs"), "{said}");
    server.signal(rustix::process::Signal::KILL);
    server.wait();
    writer.await.expect("writer");

    let said = refusal(&mut on(&here, &["restore", &file_name]));
    assert!(said.contains("--replace"), "{said}");
    stdout(&mut on(&there, &["restore", &file_name]));
    let restored = serve(&there);
    let api = api(&there).await;
    check(&api, before).await;
    // The CA came along: what the old cluster gave out is good here.
    assert_eq!(
        std::fs::read(here.join("pki/ca.crt")).expect("CA"),
        std::fs::read(there.join("pki/ca.crt")).expect("CA")
    );
    let written = api
        .create(&PostParams::default(), &secret(99_999))
        .await
        .expect("create");
    let revision: u64 = written.resource_version().expect("version").parse().expect("number");
    assert!(revision > 1_000_000_000, "{revision}");
    stop(restored);

    // Without a server the same comes from the files.
    let offline = directory.path().join("offline.tar.gz");
    stdout(&mut on(&there, &["backup", offline.to_str().expect("UTF-8")]));
    stdout(&mut on(
        &here,
        &["restore", "--replace", offline.to_str().expect("UTF-8")],
    ));
    stop(serve(&here));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_online_offline_and_under_kill() {
    let directory = tempfile::tempdir().expect("directory");
    let data_dir = directory.path().join("data");
    let keys = || std::fs::read_to_string(data_dir.join("encryption-keys")).expect("keys");
    let count = || keys().lines().filter(|line| line.starts_with("key-")).count();
    let mut server = serve(&data_dir);
    let mut client = api(&data_dir).await;
    for number in 0..300 {
        client
            .create(&PostParams::default(), &secret(number))
            .await
            .expect("create");
    }
    let before = keys();
    let said = stdout(&mut on(&data_dir, &["keys", "rotate"]));
    assert!(
        said.contains("rewrote 300 values") && said.contains("forgot key-"),
        "{said}"
    );
    assert_ne!(keys(), before);
    assert_eq!(count(), 1);
    check(&client, 300).await;

    for round in 0..6 {
        let before = keys();
        let rotating = Running::start(&mut on(&data_dir, &["keys", "rotate"]));
        // The file of keys changes first; the values follow. Each round gets a little further.
        common::until("the rotation to begin", || {
            (round == 0 || keys() != before).then_some(())
        });
        for _ in 0..round {
            client.list(&ListParams::default()).await.expect("list");
        }
        server.signal(rustix::process::Signal::KILL);
        server.wait();
        drop(rotating);
        server = serve(&data_dir);
        client = api(&data_dir).await;
        check(&client, 300).await;
    }
    // The start has settled what was interrupted, or this does.
    stdout(&mut on(&data_dir, &["keys", "rotate"]));
    assert_eq!(count(), 1);
    check(&client, 300).await;
    stop(server);
    stdout(&mut on(&data_dir, &["keys", "rotate"]));
    let server = serve(&data_dir);
    check(&api(&data_dir).await, 300).await;
    stop(server);

    for entry in std::fs::read_dir(&data_dir).expect("directory") {
        let path = entry.expect("entry").path();
        if path.is_file() {
            let content = std::fs::read(&path).expect("read");
            // "very secret" in base64, as JSON has it.
            let found = content.windows(12).any(|window| window == b"dmVyeSBzZWNy");
            assert!(!found, "plaintext in {}", path.display());
        }
    }
}
