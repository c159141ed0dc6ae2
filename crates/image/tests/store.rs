//! The store itself: names, import, leases, the collector, and processes that die.

#[allow(dead_code, reason = "every test file uses a part of it")]
mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use catamaran_image::{Digest, ErrorKind, Image, PackSource, Store};
use serde_json::{Value, json};
use support::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, layer, store};

async fn packed(store: &Store, dir: &Path, content: &str, tag: &str) -> Image {
    let rootfs = dir.join(format!("rootfs-{content}"));
    fs::create_dir_all(&rootfs).unwrap();
    fs::write(rootfs.join("content"), content).unwrap();
    store.pack(&PackSource::RootfsDir(rootfs), tag).await.unwrap()
}

fn blobs(dir: &Path) -> usize {
    fs::read_dir(dir.join("images/blobs/sha256")).unwrap().count()
}

/// Makes every use mark and leftover old.
fn age(dir: &Path) {
    for entry in fs::read_dir(dir.join("images/locks")).unwrap() {
        let old = SystemTime::now() - Duration::from_secs(3600);
        fs::File::options()
            .write(true)
            .open(entry.unwrap().path())
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(
        root || std::env::var("CI").as_deref() != Ok("true"),
        "unpacking needs root"
    );
    if !root {
        eprintln!("skipped: unpacking needs root");
    }
    root
}

#[tokio::test]
async fn names_come_and_go_and_content_goes_with_the_last() {
    let (dir, store) = store(|_| ());
    let image = packed(&store, dir.path(), "one", "a/x:1").await;
    let image = store.tag(&image.id, "b/y").await.unwrap();
    assert_eq!(image.names, ["docker.io/a/x:1", "docker.io/b/y:latest"]);
    let other = Store::open(dir.path().join("images"), Default::default()).unwrap();
    assert_eq!(
        other.get("b/y").await.unwrap().unwrap().id,
        image.id,
        "another process sees it"
    );
    let removed = store.remove("a/x:1").await.unwrap();
    assert_eq!(
        (removed.untagged, removed.deleted),
        (vec!["docker.io/a/x:1".to_owned()], None)
    );
    assert_eq!(blobs(dir.path()), 3);
    let removed = other.remove("b/y").await.unwrap();
    assert_eq!(removed.deleted, Some(image.id.clone()));
    assert_eq!((blobs(dir.path()), store.get(&image.id).await.unwrap()), (0, None));
    assert_eq!(store.remove("b/y").await.unwrap_err().kind(), ErrorKind::NotFound);
    let image = packed(&store, dir.path(), "two", "a/x:1").await;
    store.tag("a/x:1", "b/y").await.unwrap();
    let removed = store.remove(&image.id[7..19]).await.unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted), (2, Some(image.id)));
    assert!(store.get("Not Valid").await.is_err());
}

#[tokio::test]
async fn what_a_container_holds_stays() {
    let (dir, store) = store(|_| ());
    let image = packed(&store, dir.path(), "one", "x").await;
    store.hold(&image, "container-1").await.unwrap();
    let root = if is_root() {
        store.root(&image).await.unwrap().lower_dirs
    } else {
        Vec::new()
    };
    age(dir.path());
    store.remove("x").await.unwrap();
    assert_eq!(store.get("x").await.unwrap(), None);
    let held = store
        .held("container-1")
        .await
        .unwrap()
        .expect("a container can be started again from it");
    assert_eq!((held.id.as_str(), held.names.len()), (image.id.as_str(), 0));
    assert_eq!(store.held("container-2").await.unwrap(), None);
    assert_eq!(store.holders().await.unwrap(), ["container-1"]);
    // What a power cut may leave of a lease.
    fs::write(dir.path().join("images/leases/container-2"), "").unwrap();
    store.collect().await.unwrap();
    store.release("container-2").await.unwrap();
    assert_eq!(blobs(dir.path()), 3);
    assert!(root.iter().all(|layer| layer.join("content").exists()));
    let restarted = Store::open(dir.path().join("images"), Default::default()).unwrap();
    restarted.release("container-1").await.unwrap();
    restarted.release("container-1").await.unwrap();
    let collected = restarted.collect().await.unwrap();
    assert_eq!(
        (collected.blobs, collected.layers, collected.postponed),
        (3, root.len(), false)
    );
    assert!(blobs(dir.path()) == 0 && !root.iter().any(|layer| layer.exists()));
    assert!(store.hold(&image, "../../etc/x").await.is_err());
}

#[tokio::test]
async fn a_mounted_or_just_used_layer_stays() {
    if !is_root() {
        return;
    }
    let (dir, store) = store(|_| ());
    let image = packed(&store, dir.path(), "one", "x").await;
    let root = store.root(&image).await.unwrap().lower_dirs;
    store.remove("x").await.unwrap();
    assert!(root[0].exists(), "handed out a moment ago");
    age(dir.path());
    let target = dir.path().join("mounted");
    fs::create_dir(&target).unwrap();
    rustix::mount::mount_bind(&root[0], &target).unwrap();
    let collected = store.collect().await;
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(collected.unwrap().layers, 0);
    assert!(root[0].exists());
    assert_eq!(store.collect().await.unwrap().layers, 1);
}

#[tokio::test]
async fn leftovers_of_the_killed_are_collected_and_lost_content_is_pulled_again() {
    let (dir, store) = store(|_| ());
    let image = packed(&store, dir.path(), "one", "x").await;
    fs::write(dir.path().join("images/tmp/.tmpHALF"), "half a blob").unwrap();
    fs::create_dir_all(dir.path().join("images/tmp/dir-half/usr")).unwrap();
    store.collect().await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("images/tmp")).unwrap().count(), 0);
    assert_eq!(blobs(dir.path()), 3);
    let fresh = Store::open(dir.path().join("images"), Default::default()).unwrap();
    fs::remove_file(dir.path().join("images/blobs/sha256").join(&image.manifest[7..])).unwrap();
    assert_eq!(fresh.get("x").await.unwrap(), None, "so that a pull policy pulls it");
    assert_eq!(fresh.list().await.unwrap(), []);
}

/// An OCI layout as `skopeo copy … oci:DIR` writes it.
fn layout(dir: &Path, names: &[(&str, &str)]) {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let put = |bytes: &[u8], media_type: &str| {
        let digest = Digest::of(bytes);
        fs::write(dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let mut manifests: Vec<Value> = Vec::new();
    for (content, name) in names {
        let tar = layer(content);
        let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [Digest::of(&tar)]}});
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": put(config.to_string().as_bytes(), OCI_CONFIG), "layers": [put(&tar, OCI_LAYER)]});
        let mut descriptor = put(manifest.to_string().as_bytes(), OCI_MANIFEST);
        if !name.is_empty() {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        manifests.push(descriptor);
    }
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

fn archive(dir: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all("./", dir).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn oci_layouts_are_imported_as_directory_and_archive() {
    let (dir, store) = store(|_| ());
    let source = dir.path().join("layout");
    layout(&source, &[("one", "latest")]);
    let error = store.import(&source, None).await.unwrap_err().to_string();
    assert!(error.contains("give it a tag"), "{error}");
    let by_directory = store.import(&source, Some("local/one")).await.unwrap();
    assert_eq!(by_directory[0].names, ["docker.io/local/one:latest"]);

    let two = dir.path().join("two");
    layout(&two, &[("one", "example.com/one:1"), ("two", "example.com/two:1")]);
    for bytes in [archive(&two), gzip(&archive(&two))] {
        let file = dir.path().join("archive");
        fs::write(&file, bytes).unwrap();
        let images = store.import(&file, None).await.unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images[0].names, ["docker.io/local/one:latest", "example.com/one:1"]);
        assert!(
            store
                .import(&file, Some("both"))
                .await
                .unwrap_err()
                .to_string()
                .contains("cannot all be called")
        );
    }
    let victim = fs::read_dir(source.join("blobs/sha256"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::write(&victim, "changed").unwrap();
    let (_fresh_dir, fresh) = support::store(|_| ());
    assert_eq!(
        fresh.import(&source, Some("x")).await.unwrap_err().kind(),
        ErrorKind::Digest
    );
    assert_eq!(fresh.list().await.unwrap(), []);
}

#[tokio::test]
async fn docker_archives_are_imported_with_their_links() {
    let (dir, store) = store(|_| ());
    let tar = layer("docker");
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/content"]},
        "rootfs": {"diff_ids": [Digest::of(&tar), Digest::of(&tar)]}});
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    let saved =
        json!([{"Config": "abc.json", "RepoTags": ["app:1", "app:2"], "Layers": ["aa/layer.tar", "bb/layer.tar"]}]);
    add("aa/layer.tar", &gzip(&tar));
    add("abc.json", config.to_string().as_bytes());
    add("manifest.json", saved.to_string().as_bytes());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "bb/layer.tar", "../aa/layer.tar")
        .unwrap();
    let bytes = builder.into_inner().unwrap();
    let images = store.import_from(std::io::Cursor::new(bytes), None).await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].names, ["docker.io/library/app:1", "docker.io/library/app:2"]);
    assert_eq!(images[0].config.cmd, ["/content"]);
    if is_root() {
        assert_eq!(store.root(&images[0]).await.unwrap().lower_dirs.len(), 2);
    }
    let file: PathBuf = dir.path().join("rubbish");
    fs::write(&file, "no archive").unwrap();
    assert_eq!(
        store.import(&file, Some("x")).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let error = store
        .import_from(std::io::Cursor::new(empty), Some("x"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("neither an OCI image layout"), "{error}");
}

#[tokio::test]
async fn a_layer_is_unpacked_once_however_many_ask() {
    if !is_root() {
        return;
    }
    let (dir, store) = store(|_| ());
    let image = packed(&store, dir.path(), "one", "x").await;
    let stores: Vec<Store> = (0..4)
        .map(|_| Store::open(dir.path().join("images"), Default::default()).unwrap())
        .collect();
    let roots = stores.iter().cycle().take(32).map(|store| store.root(&image));
    let roots = futures::future::join_all(roots).await;
    let first = roots[0].as_ref().unwrap();
    assert!(roots.iter().all(|root| root.as_ref().unwrap() == first));
    assert_eq!(fs::read_dir(dir.path().join("images/layers")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path().join("images/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_config_says_is_not_unpacked() {
    if !is_root() {
        return;
    }
    let (dir, store) = store(|_| ());
    let image = packed(&store, dir.path(), "one", "x").await;
    let manifest = fs::read(dir.path().join("images/blobs/sha256").join(&image.manifest[7..])).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let blob = dir
        .path()
        .join("images/blobs/sha256")
        .join(&manifest["layers"][0]["digest"].as_str().unwrap()[7..]);
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, layer("another")).unwrap();
    assert_eq!(store.root(&image).await.unwrap_err().kind(), ErrorKind::Digest);
    assert_eq!(fs::read_dir(dir.path().join("images/layers")).unwrap().count(), 0);
}

/// Plays a process that dies: writes into the store of the parent test until it is killed.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os("CATAMARAN_IMAGE_VICTIM").map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(dir.join("images"), Default::default()).unwrap();
        for round in 0.. {
            let content = format!("{}-{round}", std::process::id());
            let image = packed(&store, &dir, &content, &format!("victim/x:{content}")).await;
            fs::write(dir.join("acknowledged"), content.as_str()).unwrap();
            if rustix::process::geteuid().is_root() {
                store.root(&image).await.unwrap();
            }
        }
    });
}

#[tokio::test]
async fn killed_writers_leave_a_whole_store() {
    let (dir, store) = store(|_| ());
    for round in 0..8u64 {
        let _ = fs::remove_file(dir.path().join("acknowledged"));
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env("CATAMARAN_IMAGE_VICTIM", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !dir.path().join("acknowledged").exists() {
            assert!(std::time::Instant::now() < deadline && victim.try_wait().unwrap().is_none());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(round * 1700)).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
        let acknowledged = fs::read_to_string(dir.path().join("acknowledged")).unwrap();
        if !acknowledged.is_empty() {
            let name = format!("victim/x:{acknowledged}");
            assert!(store.get(&name).await.unwrap().is_some(), "{name} was acknowledged");
        }
        for blob in fs::read_dir(dir.path().join("images/blobs/sha256")).unwrap() {
            let path = blob.unwrap().path();
            let digest = Digest::of(&fs::read(&path).unwrap());
            assert!(path.ends_with(digest.hex()), "half a blob is visible");
        }
    }
    let images = store.list().await.unwrap();
    assert!(images.len() >= 8);
    if is_root() {
        for image in &images {
            let root = store.root(image).await.unwrap();
            assert!(root.lower_dirs[0].join("content").exists(), "half a layer is visible");
        }
    }
    store.collect().await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("images/tmp")).unwrap().count(), 0);
    assert_eq!(store.list().await.unwrap().len(), images.len());
}

#[test]
fn operations_can_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let (_dir, store) = store(|_| ());
    is_send(&store.get("x"));
    is_send(&store.pull("x", &[]));
    is_send(&store.push("x", "y", &[]));
    is_send(&store.remove("x"));
}
