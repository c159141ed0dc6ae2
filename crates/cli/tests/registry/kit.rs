//! What the registries of these tests are filled with, and who fills them.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::common::{cata, root, stdout};
use crate::server::{PASSWORD, Registry, USER};

/// Root file systems and guests made by `build-roots.sh` and `build-guests.sh`, and a builder's machine with an image
/// store of its own: what a cluster runs, it has to fetch.
pub(crate) struct Kit {
    made: PathBuf,
    pub(crate) builder: tempfile::TempDir,
}

impl Kit {
    /// `None` (and the reason printed) where nothing was made, which the tier does not accept when it was asked for.
    pub(crate) fn open() -> Option<Self> {
        if !root() {
            return None;
        }
        let made = std::env::var_os("CATA_REAL_CACHE").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/real"),
            PathBuf::from,
        );
        let parts = [
            "roots/busybox",
            "roots/nginx",
            "guests/c.wasm",
            "guests/go.wasm",
            "guests/js.wasm",
        ];
        if let Some(missing) = parts.iter().find(|part| !made.join(part).exists()) {
            let hint = format!("{missing} is not in {}: see tests/registry/build-*.sh", made.display());
            assert!(
                std::env::var_os("CATA_TEST_REAL").is_none(),
                "the real-registry tier needs it: {hint}"
            );
            eprintln!("skipped: {hint}");
            return None;
        }
        let builder = tempfile::tempdir().expect("directory");
        Some(Self { made, builder })
    }

    pub(crate) fn root_of(&self, image: &str) -> PathBuf {
        self.made.join("roots").join(image)
    }

    pub(crate) fn guest(&self, language: &str) -> PathBuf {
        self.made.join("guests").join(format!("{language}.wasm"))
    }

    /// `cata VERB…` on the builder's machine.
    pub(crate) fn cata(&self, arguments: &[&str]) -> Command {
        let mut command = cata();
        command
            .arg("--data-dir")
            .arg(self.builder.path().join("data"))
            .args(arguments)
            .env("DOCKER_CONFIG", self.builder.path());
        command
    }

    /// From now on the builder's machine is logged in to a registry.
    pub(crate) fn log_in(&self, registry: &Registry) {
        let path = self.builder.path().join("config.json");
        std::fs::write(path, docker_config(registry, PASSWORD)).expect("write");
    }

    /// Packs what was made as `KIND` (`busybox`, `nginx`, `c`, `go`, `js`) and pushes it as `name`; returns its digest.
    #[track_caller]
    pub(crate) fn push(&self, kind: &str, name: &str) -> String {
        let (flag, source) = match kind {
            "busybox" | "nginx" => ("--rootfs", self.root_of(kind)),
            language => ("--wasm", self.guest(language)),
        };
        stdout(self.cata(&["image", "pack", "--tag", name, flag]).arg(source));
        let pushed = stdout(&mut self.cata(&["image", "push", name]));
        let (shown, digest) = pushed.trim().split_once("  ").expect("name and digest");
        assert_eq!(shown, name);
        digest.to_owned()
    }

    /// The digest of the module in a wasm image of the builder's.
    pub(crate) fn module(&self, name: &str) -> String {
        let list = stdout(&mut self.cata(&["image", "ls", "--output", "json"]));
        let images: Vec<Value> = serde_json::from_str(&list).expect("JSON");
        let has_name = |image: &&Value| {
            image["names"]
                .as_array()
                .is_some_and(|names| names.contains(&json!(name)))
        };
        let image = images.iter().find(has_name).expect("the image");
        image["form"]["module"].as_str().expect("a wasm image").to_owned()
    }
}

/// A docker configuration file with credentials for one registry.
pub(crate) fn docker_config(registry: &Registry, password: &str) -> String {
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    json!({"auths": {&registry.host: {"auth": auth}}}).to_string()
}
