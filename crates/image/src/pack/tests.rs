use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::elf::Elf;
use crate::test_support::{require_root, store};
use crate::{Form, PackSource};

#[tokio::test]
async fn a_wasm_file_becomes_an_artifact_with_the_platform_it_speaks() {
    let (dir, store) = store();
    for (bytes, os) in [(b"\0asm\x01\0\0\0", "wasip1"), (b"\0asm\x0d\0\x01\0", "wasip2")] {
        let file = dir.path().join("x.wasm");
        std::fs::write(&file, bytes).unwrap();
        let image = store
            .pack(&PackSource::Wasm(file.clone()), "example.com/x")
            .await
            .unwrap();
        assert_eq!((image.os.as_str(), image.architecture.as_str()), (os, "wasm"));
        let Form::WasmArtifact { module, digest } = &image.form else {
            panic!("{image:?}")
        };
        assert_eq!(std::fs::read(module).unwrap(), bytes);
        assert!(module.ends_with(digest.strip_prefix("sha256:").unwrap()));
        assert_eq!(store.root(&image).await.unwrap().lower_dirs, Vec::<PathBuf>::new());
        assert_eq!(store.get("example.com/x:latest").await.unwrap(), Some(image.clone()));
        let again = store.pack(&PackSource::Wasm(file), "example.com/y").await.unwrap();
        assert_eq!(again.id, image.id, "same input, same image");
        assert_eq!(again.names, ["example.com/x:latest", "example.com/y:latest"]);
    }
    let file = dir.path().join("x.txt");
    std::fs::write(&file, "(module)").unwrap();
    let error = store.pack(&PackSource::Wasm(file), "x").await.unwrap_err().to_string();
    assert!(
        error.contains("neither a WebAssembly module nor a component"),
        "{error}"
    );
}

#[tokio::test]
async fn host_programs_come_with_everything_their_loader_needs() {
    let (_dir, store) = store();
    let source = PackSource::FromHost(vec!["/bin/bash".into(), "true".into()]);
    let image = store.pack(&source, "localhost/bash:1").await.unwrap();
    assert_eq!(image.form, Form::Linux);
    assert_eq!(image.config.cmd, ["/bin/bash"]);
    assert!(image.config.env[0].starts_with("PATH="));
    let (_other_dir, other) = crate::test_support::store();
    assert_eq!(
        other.pack(&source, "other/name").await.unwrap().manifest,
        image.manifest,
        "deterministic"
    );

    if !require_root("unpacking") {
        return;
    }
    let root = store.root(&image).await.unwrap().lower_dirs.remove(0);
    assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(
        std::fs::metadata(root.join("tmp")).unwrap().permissions().mode() & 0o7777,
        0o1777
    );
    assert!(
        std::fs::read_to_string(root.join("etc/passwd"))
            .unwrap()
            .starts_with("root:x:0:0:")
    );
    let host_bin_is_symlink = std::fs::symlink_metadata("/bin").unwrap().is_symlink();
    assert_eq!(
        std::fs::symlink_metadata(root.join("bin")).unwrap().is_symlink(),
        host_bin_is_symlink,
        "usr-merge"
    );
    let bash = inside(&root, "/bin/bash");
    let elf = Elf::parse(&std::fs::read(&bash).unwrap()).unwrap();
    assert!(inside(&root, elf.interpreter.as_deref().unwrap()).is_file());
    let libraries: Vec<_> = walk(&root)
        .into_iter()
        .filter_map(|path| Some(path.file_name()?.to_owned()))
        .collect();
    for library in &elf.needed {
        assert!(libraries.iter().any(|name| name == library.as_str()), "{library}");
    }
}

#[tokio::test]
async fn what_is_no_program_is_refused_by_name() {
    let (dir, store) = store();
    let text = dir.path().join("text");
    std::fs::write(&text, "hello").unwrap();
    for (program, expected) in [
        ("/nonexistent/x", "/nonexistent"),
        ("no-such-program-here", "no such program"),
        (text.to_str().unwrap(), "neither an ELF program"),
    ] {
        let source = PackSource::FromHost(vec![program.into()]);
        let error = store.pack(&source, "x").await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn scripts_bring_their_interpreters() {
    let (dir, store) = store();
    let script = dir.path().join("hello");
    std::fs::write(&script, "#!/usr/bin/env -S bash\necho hi\n").unwrap();
    let image = store
        .pack(&PackSource::FromHost(vec![script.clone()]), "x")
        .await
        .unwrap();
    assert_eq!(image.config.cmd, [script.to_str().unwrap()]);
    if require_root("unpacking") {
        let root = store.root(&image).await.unwrap().lower_dirs.remove(0);
        assert!(inside(&root, "/usr/bin/env").is_file() && inside(&root, "/bin/bash").is_file());
    }
}

#[tokio::test]
async fn a_root_directory_keeps_its_details() {
    let (dir, store) = store();
    let source = dir.path().join("rootfs");
    std::fs::create_dir_all(source.join("bin")).unwrap();
    let long = "l".repeat(120);
    std::fs::write(source.join("bin/sh"), "x").unwrap();
    std::fs::write(source.join(&long), "long").unwrap();
    std::fs::set_permissions(source.join("bin/sh"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::hard_link(source.join("bin/sh"), source.join("bin/ash")).unwrap();
    symlink("/bin/sh", source.join("link")).unwrap();
    let image = store.pack(&PackSource::RootfsDir(source.clone()), "x").await.unwrap();
    assert_eq!(image.config.cmd, ["/bin/sh"]);
    std::fs::write(source.join("unused"), "").unwrap();
    std::fs::remove_file(source.join("unused")).unwrap();
    let again = store.pack(&PackSource::RootfsDir(source), "x").await.unwrap();
    assert_eq!(again.manifest, image.manifest, "times do not matter");
    if require_root("unpacking") {
        let root = store.root(&image).await.unwrap().lower_dirs.remove(0);
        let (sh, ash) = (
            root.join("bin/sh").metadata().unwrap(),
            root.join("bin/ash").metadata().unwrap(),
        );
        assert_eq!((sh.ino(), sh.mode() & 0o7777), (ash.ino(), 0o4755));
        assert_eq!(std::fs::read_link(root.join("link")).unwrap(), PathBuf::from("/bin/sh"));
        assert_eq!(std::fs::read(root.join(long)).unwrap(), b"long");
    }
}

/// Follows symlinks as a process with that root would.
fn inside(root: &std::path::Path, path: &str) -> PathBuf {
    let directory = std::fs::File::open(root).unwrap();
    let fd = rustix::fs::openat2(
        &directory,
        path,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
        rustix::fs::ResolveFlags::IN_ROOT,
    )
    .unwrap_or_else(|error| panic!("{path}: {error}"));
    std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap()
}

fn walk(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| {
            let below = if entry.file_type().unwrap().is_dir() {
                walk(&entry.path())
            } else {
                Vec::new()
            };
            std::iter::once(entry.path()).chain(below)
        })
        .collect()
}
