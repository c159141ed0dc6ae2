//! Layers as builders make them, and as attackers do.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Layer, unpack};
use crate::options::Limits;
use crate::test_support::require_root;
use crate::{Digest, Error, ErrorKind};

/// Writes archives that the `tar` crate would refuse to.
#[derive(Default, Clone)]
struct Archive(Vec<u8>);

impl Archive {
    fn entry(
        mut self,
        kind: u8,
        name: &[u8],
        link: &[u8],
        data: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Archive {
        for (long, flag) in [(name, b'L'), (link, b'K')] {
            if long.len() > 100 {
                self = self.short(flag, b"././@LongLink", b"", &[long, b"\0"].concat(), |_| ());
            }
        }
        self.short(kind, name, link, data, change)
    }

    fn short(
        mut self,
        kind: u8,
        name: &[u8],
        link: &[u8],
        data: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Archive {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        change(&mut header);
        let old = header.as_old_mut();
        old.name[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        old.linkname[..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        old.linkflag = [kind];
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &str) -> Archive {
        self.entry(b'0', name.as_bytes(), b"", data.as_bytes(), |_| ())
    }

    fn dir(self, name: &str, mode: u32) -> Archive {
        self.entry(b'5', name.as_bytes(), b"", b"", |header| header.set_mode(mode))
    }

    fn symlink(self, name: &str, target: &str) -> Archive {
        self.entry(b'2', name.as_bytes(), target.as_bytes(), b"", |_| ())
    }

    fn hardlink(self, name: &str, target: &str) -> Archive {
        self.entry(b'1', name.as_bytes(), target.as_bytes(), b"", |_| ())
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(b'x', b"pax", b"", &body, |_| ())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

struct Unpacked {
    outer: TempDir,
    result: Result<(), Error>,
}

impl Unpacked {
    fn root(&self) -> PathBuf {
        self.outer.path().join("root")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn ok(self) -> Unpacked {
        if let Err(error) = &self.result {
            panic!(
                "{error}: {:?}",
                std::error::Error::source(error).map(ToString::to_string)
            );
        }
        self
    }

    fn error(&self) -> String {
        self.result.as_ref().expect_err("a hostile archive").to_string()
    }
}

fn unpack_with(blob: &[u8], tar: &[u8], lowers: &[&Unpacked], limits: &Limits) -> Unpacked {
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("root")).unwrap();
    fs::write(outer.path().join("canary"), "alive").unwrap();
    fs::write(outer.path().join("blob"), blob).unwrap();
    let lowers: Vec<PathBuf> = lowers.iter().map(|lower| lower.root()).collect();
    let diff_id = Digest::of(tar);
    let layer = Layer {
        blob: &outer.path().join("blob"),
        diff_id: &diff_id,
        lowers: &lowers,
    };
    let result = unpack(&layer, &outer.path().join("root"), limits);
    assert_eq!(fs::read_to_string(outer.path().join("canary")).unwrap(), "alive");
    assert_eq!(
        fs::read_dir(outer.path()).unwrap().count(),
        3,
        "nothing appeared beside the root"
    );
    Unpacked { outer, result }
}

fn over(archive: Archive, lowers: &[&Unpacked]) -> Unpacked {
    let tar = archive.end();
    unpack_with(&tar, &tar, lowers, &Limits::default())
}

fn alone(archive: Archive) -> Unpacked {
    over(archive, &[])
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn is_opaque(path: impl AsRef<Path>) -> bool {
    xattr::get(path, "trusted.overlay.opaque").unwrap().as_deref() == Some(b"y")
}

fn is_whiteout(path: impl AsRef<Path>) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0)
}

#[test]
fn metadata_survives() {
    if !require_root("unpacking") {
        return;
    }
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(200));
    let odd = b"odd-\xff\xfe-name";
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let archive = Archive::default()
        .dir("./", 0o750)
        .entry(b'5', b"tmp/", b"", b"", |header| header.set_mode(0o1777))
        .entry(b'0', b"su", b"", b"x", |header| {
            header.set_mode(0o4755);
            header.set_uid(1000);
            header.set_gid(4_000_000_000);
            header.set_mtime(1_234_567);
        })
        .pax(&[
            ("SCHILY.xattr.user.mime", b"a\0b"),
            ("SCHILY.xattr.security.capability", &capability),
            ("mtime", b"77.25"),
        ])
        .file("ping", "x")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ])
        .dir("steering", 0o755)
        .entry(b'0', long.as_bytes(), b"", b"long", |_| ())
        .pax(&[("path", b"renamed/\xff")])
        .file("short", "pax name")
        .entry(b'0', odd, b"", b"odd", |_| ())
        .entry(b'6', b"fifo", b"", b"", |header| header.set_mode(0o622))
        .entry(b'3', b"null", b"", b"", |header| {
            header.set_mode(0o666);
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        })
        .symlink("link", "/etc/passwd")
        .hardlink("su2", "su")
        .file("tmp/inside", "changes the directory's time");
    let unpacked = alone(archive).ok();
    assert_eq!(mode(unpacked.root()), 0o750);
    assert_eq!(
        (mode(unpacked.path("tmp")), mode(unpacked.path("su"))),
        (0o1777, 0o4755)
    );
    let su = fs::metadata(unpacked.path("su")).unwrap();
    assert_eq!(
        (su.uid(), su.gid(), su.mtime(), su.nlink()),
        (1000, 4_000_000_000, 1_234_567, 2)
    );
    assert_eq!(
        fs::metadata(unpacked.path("tmp")).unwrap().mtime(),
        1_000_000,
        "set after it was filled"
    );
    assert_eq!(
        xattr::get(unpacked.path("ping"), "user.mime").unwrap().unwrap(),
        b"a\0b"
    );
    assert_eq!(
        xattr::get(unpacked.path("ping"), "security.capability")
            .unwrap()
            .unwrap(),
        capability
    );
    let ping = fs::metadata(unpacked.path("ping")).unwrap();
    assert_eq!((ping.mtime(), ping.mtime_nsec()), (77, 250_000_000));
    assert_eq!(
        xattr::list(unpacked.path("steering")).unwrap().count(),
        0,
        "overlay attributes are dropped"
    );
    assert_eq!(fs::read(unpacked.path(&long)).unwrap(), b"long");
    assert_eq!(
        fs::read(unpacked.path("renamed").join(OsStr::from_bytes(b"\xff"))).unwrap(),
        b"pax name"
    );
    assert_eq!(fs::read(unpacked.root().join(OsStr::from_bytes(odd))).unwrap(), b"odd");
    let kind = |path: &str| fs::symlink_metadata(unpacked.path(path)).unwrap();
    assert!(kind("fifo").file_type().is_fifo() && mode(unpacked.path("fifo")) == 0o622);
    assert_eq!(kind("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(fs::read_link(unpacked.path("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(kind("link").mtime(), 1_000_000);
}

#[test]
fn deletions_take_overlay_form_wherever_they_stand() {
    if !require_root("unpacking") {
        return;
    }
    let archive = Archive::default()
        .file("a/.wh.gone", "")
        .file("b/.wh..wh..opq", "")
        .file("b/new", "")
        .file(".wh.c", "")
        .file("c/replaces", "")
        .file("d/first", "")
        .file(".wh.d", "")
        .file(".wh.e", "")
        .file("e", "back again")
        .file("f", "")
        .file(".wh.f", "")
        .file(".wh..wh.plnk", "aufs");
    let unpacked = alone(archive).ok();
    assert!(is_whiteout(unpacked.path("a/gone")));
    assert!(is_opaque(unpacked.path("b")) && unpacked.path("b/new").exists());
    assert!(is_opaque(unpacked.path("c")) && unpacked.path("c/replaces").exists());
    assert!(is_opaque(unpacked.path("d")) && unpacked.path("d/first").exists());
    assert_eq!(fs::read_to_string(unpacked.path("e")).unwrap(), "back again");
    assert!(unpacked.path("f").is_file());
    let names: Vec<_> = fs::read_dir(unpacked.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names.iter().all(|name| !name.as_bytes().starts_with(b".wh.")),
        "{names:?}"
    );
    for bad in [".wh.", "x/.wh..", "x/.wh..."] {
        assert!(
            alone(Archive::default().file(bad, ""))
                .error()
                .contains("whiteout of nothing"),
            "{bad}"
        );
    }
}

#[test]
fn lower_layers_shape_what_goes_on_top() {
    if !require_root("unpacking") {
        return;
    }
    let base = Archive::default()
        .dir("./", 0o711)
        .dir("usr", 0o755)
        .entry(b'5', b"usr/lib", b"", b"", |header| {
            header.set_mode(0o2750);
            header.set_uid(7);
        })
        .symlink("lib", "usr/lib")
        .file("usr/lib/tool", "tool")
        .dir("hidden", 0o755)
        .file("hidden/file", "x")
        .dir("opaque", 0o700)
        .file("opaque/file", "x");
    let base = alone(base).ok();
    let middle = over(
        Archive::default()
            .file(".wh.hidden", "")
            .file("opaque/.wh..wh..opq", ""),
        &[&base],
    )
    .ok();
    let top = Archive::default()
        .file("lib/new", "through a lower symlink")
        .hardlink("bin/tool", "lib/tool");
    let top = over(top, &[&middle, &base]).ok();
    assert_eq!(mode(top.root()), 0o711, "the root stays as it was");
    assert!(!top.path("lib").exists() && top.path("usr/lib/new").exists());
    assert_eq!(mode(top.path("usr/lib")), 0o2750, "passing through changes nothing");
    assert_eq!(fs::metadata(top.path("usr/lib")).unwrap().uid(), 7);
    assert_eq!(fs::read(top.path("bin/tool")).unwrap(), b"tool");
    let (a, b) = (
        fs::metadata(top.path("bin/tool")).unwrap(),
        fs::metadata(top.path("usr/lib/tool")).unwrap(),
    );
    assert_eq!(a.ino(), b.ino(), "copied up once, then linked");
    for target in ["hidden/file", "opaque/file", "nowhere"] {
        let error = over(Archive::default().hardlink("x", target), &[&middle, &base]).error();
        assert!(error.contains("does not exist"), "{target}: {error}");
    }
    assert!(
        over(Archive::default().file("usr/lib/tool/below", ""), &[&base])
            .error()
            .contains("not a directory")
    );
}

#[test]
fn there_is_no_way_out() {
    if !require_root("unpacking") {
        return;
    }
    for (archive, expected) in [
        (Archive::default().file("../canary", "dead"), "out of the root"),
        (Archive::default().file("a/../../canary", "dead"), "out of the root"),
        (Archive::default().hardlink("x", "../canary"), "out of the root"),
        (
            Archive::default().symlink("up", "..").hardlink("x", "up/canary"),
            "does not exist",
        ),
        (
            Archive::default().symlink("a", "b").symlink("b", "a").file("a/x", ""),
            "too many symbolic links",
        ),
        (Archive::default().file("a", "").file("a/b", ""), "not a directory"),
        (Archive::default().hardlink("x", "/"), "hard link to the root"),
        (
            Archive::default().dir("d", 0o755).hardlink("x", "d"),
            "hard link to a directory",
        ),
        (Archive::default().file(&"a/".repeat(400), ""), "too deep"),
        (Archive::default().symlink("x", ""), "without a usable target"),
        (Archive::default().entry(b'3', b"x", b"", b"", |_| ()), "0/0"),
        (
            Archive::default().entry(b'Z', b"x", b"", b"", |_| ()),
            "unsupported entry type",
        ),
        (Archive::default().pax(&[("path", b"a\0b")]).file("x", ""), "NUL"),
        (Archive::default().file("./", "file as root").file("/", ""), ""),
    ] {
        let unpacked = alone(archive);
        if !expected.is_empty() {
            assert!(unpacked.error().contains(expected), "{expected}: {}", unpacked.error());
        }
    }
    let absolute = "/tmp/catamaran-must-not-exist";
    for archive in [
        Archive::default().file("/canary", "inside"),
        Archive::default().symlink("up", "../../..").file("up/canary", "inside"),
        Archive::default().symlink("up", "/").file("up/canary", "inside"),
        Archive::default()
            .symlink("up", "/..")
            .symlink("on", "up/../up")
            .file("on/canary", "inside"),
        Archive::default().symlink("canary", absolute).file("canary", "inside"),
        Archive::default()
            .symlink("d", "/")
            .dir("d", 0o755)
            .file("canary", "inside"),
    ] {
        let unpacked = alone(archive).ok();
        assert_eq!(fs::read_to_string(unpacked.path("canary")).unwrap(), "inside");
        assert!(fs::symlink_metadata(absolute).is_err());
    }
    let relinked = alone(
        Archive::default()
            .symlink("s", "/etc/passwd")
            .hardlink("h", "s")
            .file("h", "mine"),
    )
    .ok();
    assert_eq!(fs::read_to_string(relinked.path("h")).unwrap(), "mine");
    let replaced = alone(
        Archive::default()
            .file("d/x/y", "")
            .file("d", "now a file")
            .hardlink("d", "d"),
    )
    .ok();
    assert_eq!(fs::read_to_string(replaced.path("d")).unwrap(), "now a file");
}

#[test]
fn any_sequence_of_entries_stays_inside() {
    use proptest::prelude::*;
    if !require_root("unpacking") {
        return;
    }
    let name = prop::collection::vec(
        prop::sample::select(vec!["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", "canary"]),
        1..5,
    );
    let target = prop::collection::vec(
        prop::sample::select(vec!["a", "b", "..", "", "canary", "../../.."]),
        1..4,
    );
    let entry = (prop::sample::select(vec![b'0', b'1', b'2', b'5', b'6']), name, target);
    let config = ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(entries in prop::collection::vec(entry, 1..12), split in 0usize..12)| {
        let split = split.min(entries.len());
        let archive = |entries: &[(u8, Vec<&str>, Vec<&str>)]| {
            entries.iter().fold(Archive::default(), |archive, (kind, name, target)| {
                let data: &[u8] = if *kind == b'0' { b"dead" } else { b"" };
                archive.entry(*kind, name.join("/").as_bytes(), target.join("/").as_bytes(), data, |_| ())
            })
        };
        let lower = alone(archive(&entries[..split]));
        over(archive(&entries[split..]), &[&lower]);
        prop_assert_eq!(fs::read_to_string(lower.outer.path().join("canary")).unwrap(), "alive");
    });
}

#[test]
fn every_compression_and_a_wrong_diff_id() {
    if !require_root("unpacking") {
        return;
    }
    let tar = Archive::default().file("x", &"content ".repeat(10_000)).end();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let members = [gzip(&tar[..5000]), gzip(&tar[5000..])].concat();
    let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
    let frames = [
        zstd::encode_all(&tar[..700], 1).unwrap(),
        zstd::encode_all(&tar[700..], 1).unwrap(),
    ]
    .concat();
    for blob in [tar.clone(), gzip(&tar), members, zstd.clone(), frames] {
        let unpacked = unpack_with(&blob, &tar, &[], &Limits::default()).ok();
        assert_eq!(fs::metadata(unpacked.path("x")).unwrap().len(), 80_000);
    }
    let kind = |blob: &[u8]| {
        unpack_with(blob, b"other", &[], &Limits::default())
            .result
            .unwrap_err()
            .kind()
    };
    assert_eq!(kind(&zstd), ErrorKind::Digest);
    assert_eq!(kind(&gzip(&tar)[..200]), ErrorKind::Invalid, "truncated");
    assert_eq!(
        kind(
            b"this is no archive at all, but longer than nothing"
                .repeat(20)
                .as_slice()
        ),
        ErrorKind::Invalid
    );
}

#[test]
fn an_archive_may_lack_its_end_but_no_data() {
    if !require_root("unpacking") {
        return;
    }
    let tar = Archive::default().entry(b'0', b"x", b"", &[b'x'; 700], |_| ()).0;
    let content_end = 512 + 700;
    for end in [content_end, content_end + 1, tar.len()] {
        let unpacked = unpack_with(&tar[..end], &tar[..end], &[], &Limits::default()).ok();
        assert_eq!(fs::metadata(unpacked.path("x")).unwrap().len(), 700, "{end}");
    }
    for end in [500, 512, content_end - 1] {
        let result = unpack_with(&tar[..end], &tar[..end], &[], &Limits::default()).result;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid, "{end}");
    }
}

#[test]
fn bombs_are_defused() {
    if !require_root("unpacking") {
        return;
    }
    let limits = Limits {
        layer_bytes: 10 << 20,
        layer_entries: 100,
        ratio: 10,
        ratio_floor_bytes: 1 << 20,
        header_bytes: 4096,
        ..Limits::default()
    };
    let check = |archive: Archive, compress: bool, expected: ErrorKind| {
        let tar = archive.end();
        let blob = if compress {
            zstd::encode_all(tar.as_slice(), 1).unwrap()
        } else {
            tar.clone()
        };
        let error = unpack_with(&blob, &tar, &[], &limits).result.unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
    };
    let zeros = "\0".repeat(3 << 20);
    check(Archive::default().file("ratio", &zeros), true, ErrorKind::TooLarge);
    check(
        Archive::default().entry(b'0', b"size", b"", &vec![0; 11 << 20], |_| ()),
        false,
        ErrorKind::TooLarge,
    );
    let many = (0..101).fold(Archive::default(), |archive, index| {
        archive.file(&format!("f{index}"), "")
    });
    check(many, false, ErrorKind::Invalid);
    check(
        Archive::default()
            .entry(b'L', b"long", b"", &vec![b'a'; 5000], |_| ())
            .file("x", ""),
        false,
        ErrorKind::Invalid,
    );
    let endless = Archive::default().entry(b'L', b"long", b"", b"", |header| header.set_size(u64::MAX / 4));
    check(endless, false, ErrorKind::Invalid);
    let map = format!("1\n0\n512\n{}", "\0".repeat(512 - 8));
    let holes = Archive::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"99999999999"),
        ])
        .file("holes", &(map + &"x".repeat(512)));
    check(holes, false, ErrorKind::TooLarge);
}

#[test]
fn sparse_files_of_every_format() {
    if !require_root("unpacking") {
        return;
    }
    let data = "x".repeat(512);
    let map = format!("2\n512\n512\n2048\n0\n{}", "\0".repeat(512 - 17));
    let v1 = Archive::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"2048"),
        ])
        .file("GNUSparseFile.0/sparse", &(map + &data));
    let v01 = Archive::default()
        .pax(&[("GNU.sparse.map", b"512,512,2048,0"), ("GNU.sparse.size", b"2048")])
        .file("sparse", &data);
    let old = Archive::default().entry(b'S', b"sparse", b"", data.as_bytes(), |header| {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(b"00000001000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.realsize.copy_from_slice(b"00000004000\0");
    });
    for archive in [v1, v01, old] {
        let unpacked = alone(archive.file("after", "next entry is found")).ok();
        let content = fs::read(unpacked.path("sparse")).unwrap();
        assert_eq!(content.len(), 2048);
        assert!(content[512..1024].iter().all(|byte| *byte == b'x'));
        assert!(content[..512].iter().chain(&content[1024..]).all(|byte| *byte == 0));
        assert!(unpacked.path("after").exists());
    }
    let overlap = Archive::default()
        .pax(&[("GNU.sparse.map", b"0,300,100,212"), ("GNU.sparse.size", b"2048")])
        .file("sparse", &data);
    assert!(alone(overlap).error().contains("overlap"));
}

#[test]
fn a_directory_without_permissions_is_filled_all_the_same() {
    if !require_root("unpacking") {
        return;
    }
    let unpacked = alone(Archive::default().dir("d", 0o000).file("d/x", "y").dir("d", 0o500)).ok();
    assert_eq!(mode(unpacked.path("d")), 0o500);
    fs::set_permissions(unpacked.path("d"), Permissions::from_mode(0o700)).unwrap();
}
