//! To a real registry and back. The program is Debian's `docker-registry`.

#[allow(dead_code, reason = "every test file uses a part of it")]
mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use catamaran_image::{ErrorKind, Form, PackSource};
use support::store;
use tempfile::TempDir;

struct Registry {
    process: Child,
    host: String,
    _dir: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `None` where the program is missing, which CI does not accept.
async fn registry() -> Option<Registry> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let program = ["/usr/bin/docker-registry", "/usr/bin/registry"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    let Some(program) = program else {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "docker-registry is missing, and CI must not skip it"
        );
        eprintln!("skipped: docker-registry is not installed");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    // The registry cannot tell which port it got, so a free one is chosen here.
    let host = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let config = dir.path().join("config.yml");
    let storage = dir.path().join("storage");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{host}'}}\n",
        storage.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut serve = Command::new(program);
    let process = serve
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut registry = Registry {
        process,
        host,
        _dir: dir,
    };
    assert!(
        registry.is_up().await,
        "docker-registry does not start on {}",
        registry.host
    );
    Some(registry)
}

impl Registry {
    async fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if tokio::net::TcpStream::connect(&self.host).await.is_ok() {
                return true;
            }
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

#[tokio::test]
async fn what_was_pushed_is_pulled_elsewhere() {
    let Some(registry) = registry().await else { return };
    let (dir, here) = store(|_| ());
    let (_there_dir, there) = store(|_| ());
    let rootfs = dir.path().join("rootfs");
    std::fs::create_dir(&rootfs).unwrap();
    std::fs::write(rootfs.join("content"), "x".repeat(3 << 20)).unwrap();
    let module = dir.path().join("m.wasm");
    std::fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    for (source, name) in [
        (PackSource::RootfsDir(rootfs), "team/linux:1"),
        (PackSource::Wasm(module), "team/wasm:1"),
    ] {
        let packed = here.pack(&source, &format!("localhost/{name}")).await.unwrap();
        let remote = format!("{}/{name}", registry.host);
        let digest = here.push(&packed.names[0], &remote, &[]).await.unwrap();
        assert_eq!(digest, packed.manifest);
        assert_eq!(
            here.push(&packed.id, &remote, &[]).await.unwrap(),
            digest,
            "again is fine"
        );
        let pulled = there.pull(&remote, &[]).await.unwrap();
        assert_eq!(
            (&pulled.id, &pulled.manifest, pulled.size),
            (&packed.id, &packed.manifest, packed.size)
        );
        match (&pulled.form, &packed.form) {
            (Form::WasmArtifact { digest: a, .. }, Form::WasmArtifact { digest: b, .. }) => assert_eq!(a, b),
            (a, b) => assert_eq!(a, b),
        }
        // From one repository to another of the same registry, layers need not travel.
        let copy = format!("{}/copy/of:{}", registry.host, &digest[7..15]);
        there.push(&remote, &copy, &[]).await.unwrap();
        assert_eq!(here.pull(&copy, &[]).await.unwrap().id, packed.id);
    }
    let error = there
        .pull(&format!("{}/team/none:1", registry.host), &[])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let wrong = format!("{}/team/linux@sha256:{}", registry.host, "0".repeat(64));
    assert_eq!(there.pull(&wrong, &[]).await.unwrap_err().kind(), ErrorKind::NotFound);
    let error = here.push("localhost/team/linux:1", &wrong, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidReference);

    let name = format!("{}/team/linux:1", registry.host);
    drop(registry);
    assert_eq!(
        there.get(&name).await.unwrap().unwrap().names,
        std::slice::from_ref(&name)
    );
    assert_eq!(there.pull(&name, &[]).await.unwrap_err().kind(), ErrorKind::Unreachable);
}
