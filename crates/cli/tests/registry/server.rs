//! A real registry on loopback: Debian's `docker-registry`, configured for one test, gone when the test says so.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{have, until};

/// Who may come in.
pub(crate) enum Access<'a> {
    Everybody,
    /// `USER` with `PASSWORD`, by basic authentication.
    Basic,
    /// Who has a token of this server, signed with the key of this certificate.
    Tokens {
        realm: &'a str,
        certificate: &'a Path,
    },
}

pub(crate) const USER: &str = "captain";
/// Only the first colon of `user:password` separates.
pub(crate) const PASSWORD: &str = "secret:with:colons";
/// The two as `htpasswd -B` writes them, with the lowest cost there is.
const HTPASSWD: &str = "captain:$2b$05$u/aShnVr0ZTKXCg86HudbOCR97gpp8oFZczaZusbJUTNytN7OO9pO\n";
pub(crate) const SERVICE: &str = "registry of a test";
pub(crate) const ISSUER: &str = "token server of a test";

pub(crate) struct Registry {
    process: Child,
    /// `127.0.0.1:PORT`: the first part of its images' names.
    pub(crate) host: String,
    directory: tempfile::TempDir,
}

impl Registry {
    /// Serving when it returns. `None` (and the reason printed) where the program is missing.
    pub(crate) fn start(access: &Access<'_>) -> Option<Self> {
        if !have("docker-registry") {
            return None;
        }
        let directory = tempfile::tempdir().expect("directory");
        // The registry does not say which port it got, so a free one is chosen here.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let host = port.expect("a free port").to_string();
        let passwords = directory.path().join("htpasswd");
        std::fs::write(&passwords, HTPASSWD).expect("write");
        let auth = match access {
            Access::Everybody => String::new(),
            Access::Basic => format!("auth: {{htpasswd: {{realm: test, path: '{}'}}}}\n", passwords.display()),
            Access::Tokens { realm, certificate } => format!(
                "auth: {{token: {{realm: '{realm}', service: '{SERVICE}', issuer: '{ISSUER}', rootcertbundle: '{}'}}}}\n",
                certificate.display()
            ),
        };
        let storage = directory.path().join("storage");
        let configuration = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '{host}'}}\n{auth}",
            storage.display()
        );
        std::fs::write(&configuration, text).expect("write");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        let mut registry = Self {
            process,
            host,
            directory,
        };
        until("the registry to listen", || {
            let ended = registry.process.try_wait().expect("wait");
            assert_eq!(ended, None, "docker-registry ended");
            std::net::TcpStream::connect(&registry.host).ok()
        });
        Some(registry)
    }

    /// The name of an image that it serves.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Changes one byte of a blob behind the registry's back.
    pub(crate) fn corrupt(&self, digest: &str) {
        let hex = digest.strip_prefix("sha256:").expect("sha256");
        let blobs = self.directory.path().join("storage/docker/registry/v2/blobs/sha256");
        let path = blobs.join(&hex[..2]).join(hex).join("data");
        let mut bytes = std::fs::read(&path).expect("a blob");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("write");
    }

    /// From here on nobody listens on its port.
    pub(crate) fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
