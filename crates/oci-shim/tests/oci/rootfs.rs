//! What the program sees of file systems, and what it cannot reach.

use crate::world::World;
use serde_json::json;
use std::os::unix::fs::symlink;

pub(crate) const TESTS: &[crate::Test] = &[
    ("binds_are_writable_or_not", binds),
    ("recursive_attributes_reach_submounts", recursive),
    ("new_file_systems_take_options", new_file_systems),
    ("the_root_is_read_only_when_asked", read_only_root),
    ("the_root_may_be_an_overlay", overlay),
    ("masked_and_read_only_paths", protected),
    ("links_in_the_image_cannot_move_mounts_outside", evil_links),
    ("proc_must_not_be_a_link", evil_proc),
    ("nothing_is_mounted_inside_proc", inside_proc),
    ("a_working_directory_cannot_be_outside", evil_cwd),
    ("the_host_is_out_of_reach", isolated),
    ("moving_the_root_works_without_pivot", no_pivot),
    ("tmpfs_copies_up", copy_up),
];

fn binds() {
    let mut world = World::new();
    let (dir, file) = (world.path("dir"), world.path("file"));
    std::fs::create_dir(&dir).expect("made");
    std::fs::write(&file, "content").expect("written");
    world.add_mount(json!({"destination": "/rw", "source": dir, "options": ["rbind", "rprivate"]}));
    world.add_mount(
        json!({"destination": "/ro", "source": dir, "options": ["bind", "ro", "nosuid", "nodev", "noexec"]}),
    );
    world.add_mount(json!({"destination": "/a/b/file", "type": "bind", "source": file, "options": ["ro"]}));
    let out = world
        .sh("touch /rw/x; touch /ro/y 2>/dev/null || echo refused; cat /a/b/file; ls /ro; grep ' /ro ' /proc/mounts");
    let out = out.ok();
    assert!(out.starts_with("refused\ncontentx\n"), "{out}");
    let options = out.lines().last().expect("a mount").split(' ').nth(3).expect("options");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.split(',').any(|o| o == option), "{options}");
    }
    assert!(dir.join("x").exists() && !dir.join("y").exists());
    world.assert_nothing_left();
}

fn recursive() {
    let mut world = World::new();
    let dir = world.path("dir");
    std::fs::create_dir(&dir).expect("made");
    // The host's /dev has submounts (pts, shm): a plain read-only bind leaves them writable.
    world.add_mount(json!({"destination": "/plain", "source": "/dev", "options": ["rbind", "ro"]}));
    world.add_mount(json!({"destination": "/deep", "source": "/dev", "options": ["rbind", "rro"]}));
    let script =
        "f=shm/oci-test-$$; touch /deep/$f 2>/dev/null || echo refused; touch /plain/$f && rm /plain/$f && echo made";
    assert_eq!(world.sh(script).ok(), "refused\nmade");
}

fn new_file_systems() {
    let mut world = World::new();
    world.add_mount(json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=750", "uid=7", "noexec"]}));
    world.add_mount(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]}));
    let out = world
        .sh("stat -c '%a %u' /t; df -k --output=size /t | tail -1 | tr -d ' '; grep -c mqueue /proc/mounts")
        .ok();
    assert_eq!(out, "750 7\n64\n1");
    world.add_mount(json!({"destination": "/bad", "type": "tmpfs", "options": ["nonsense=1"]}));
    assert!(world.run().err.contains("mount tmpfs at /bad: option \"nonsense=1\""));
}

fn read_only_root() {
    let mut world = World::new();
    world.spec["root"]["readonly"] = json!(true);
    assert_eq!(
        world
            .sh("touch /x 2>/dev/null || echo refused; touch /dev/shm/y && echo made")
            .ok(),
        "refused\nmade"
    );
}

fn overlay() {
    let mut world = World::new();
    let (upper, work, lower) = (world.path("upper"), world.path("work"), world.path("lower"));
    for dir in [&upper, &work, &lower] {
        std::fs::create_dir(dir).expect("made");
    }
    std::fs::write(lower.join("hello"), "from below").expect("written");
    let options = [
        format!("lowerdir={}", lower.display()),
        format!("lowerdir={}", world.rootfs().display()),
        format!("upperdir={}", upper.display()),
        format!("workdir={}", work.display()),
    ];
    let mount = json!({"destination": "/", "type": "overlay", "source": "overlay", "options": options});
    world.spec["mounts"].as_array_mut().expect("a list").insert(0, mount);
    world.spec["root"]["path"] = json!("merged");
    std::fs::create_dir(world.bundle().join("merged")).expect("made");
    assert_eq!(
        world.sh("cat /hello; echo changed > /hello; touch /new").ok(),
        "from below"
    );
    assert_eq!(
        std::fs::read_to_string(upper.join("hello")).expect("copied up"),
        "changed\n"
    );
    assert!(upper.join("new").exists() && !world.rootfs().join("new").exists());
    world.assert_nothing_left();
}

fn protected() {
    let mut world = World::new();
    std::fs::create_dir(world.rootfs().join("secret")).expect("made");
    std::fs::write(world.rootfs().join("secret/file"), "x").expect("written");
    world.spec["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/keys", "/secret", "/not/there"]);
    let script = "cat /proc/keys; ls /secret; echo 1 > /proc/sys/kernel/core_pattern || echo refused";
    assert_eq!(world.sh(script).out, "refused");
    world.spec["linux"]["maskedPaths"] = json!(["/secret/file"]);
    assert_eq!(world.sh("cat /secret/file; ls /secret").ok(), "file");
}

fn evil_links() {
    let mut world = World::new();
    let outside = world.path("outside");
    std::fs::create_dir(&outside).expect("made");
    let source = world.path("source");
    std::fs::write(&source, "mounted").expect("written");
    symlink(&outside, world.rootfs().join("data")).expect("link");
    symlink("../../../../../../../..", world.rootfs().join("up")).expect("link");
    world.add_mount(json!({"destination": "/up/climbed/file", "source": source, "options": ["bind"]}));
    assert_eq!(world.sh("cat /climbed/file").ok(), "mounted");
    assert!(world.rootfs().join("climbed/file").exists(), "made inside");
    world.add_mount(json!({"destination": "/data/x", "source": source, "options": ["bind"]}));
    let refused = world.run();
    assert!(
        refused.err.contains("mount") && refused.err.contains("leads nowhere"),
        "{}",
        refused.err
    );
    assert_eq!(
        std::fs::read_dir(&outside).expect("readable").count(),
        0,
        "nothing was made outside"
    );
    world.assert_nothing_left();
}

fn evil_proc() {
    let world = World::new();
    std::fs::remove_dir(world.rootfs().join("proc")).expect("removed");
    symlink("tmp", world.rootfs().join("proc")).expect("link");
    assert!(
        world
            .run()
            .err
            .contains("mount proc at /proc: the image has a symbolic link there")
    );
}

fn inside_proc() {
    for destination in ["/proc/sys", "/proc/self/attr", "/proc", "/elsewhere/sys"] {
        let mut world = World::new();
        let dir = world.path("dir");
        std::fs::create_dir(&dir).expect("made");
        symlink("/proc", world.rootfs().join("elsewhere")).expect("link");
        for mount in [
            json!({"destination": destination, "source": dir, "options": ["bind"]}),
            json!({"destination": destination, "type": "tmpfs"}),
        ] {
            world.add_mount(mount);
            let ended = world.sh("true");
            assert!(ended.err.contains("inside /proc"), "{destination}: {}", ended.err);
            world.spec["mounts"].as_array_mut().expect("a list").pop();
        }
        world.assert_nothing_left();
    }
    let mut world = World::new();
    let fake = world.path("meminfo");
    std::fs::write(&fake, "little").expect("written");
    world.add_mount(json!({"destination": "/proc/meminfo", "source": fake, "options": ["bind", "ro"]}));
    assert_eq!(world.sh("cat /proc/meminfo").ok(), "little");
}

fn evil_cwd() {
    let mut world = World::new();
    for cwd in ["/proc/self/fd/3", "/proc/self/fd/7/..", "/proc/self/fd/9"] {
        world.spec["process"]["cwd"] = json!(cwd);
        let ended = world.sh("pwd");
        assert!(ended.code != 0, "{cwd}: {}", ended.out);
    }
}

fn isolated() {
    let mut world = World::new();
    let script = "grep -c /dev/shm/oci-test /proc/self/mountinfo; ls / | tr '\\n' ' '; ls -d /proc/1/root/* | wc -l";
    let out = world.sh(script);
    let lines: Vec<&str> = out.out.lines().collect();
    assert!(!lines[1].contains("work") && !lines[1].contains("root "), "{lines:?}");
}

fn no_pivot() {
    let mut world = World::new();
    world.args(&["sh", "-c", "ls -d /probe /etc; cat /proc/1/comm"]);
    assert_eq!(world.run_with(&["--no-pivot"]).ok(), "/etc\n/probe\nsh");
    world.assert_nothing_left();
}

fn copy_up() {
    let mut world = World::new();
    std::fs::create_dir_all(world.rootfs().join("lib-state/sub")).expect("made");
    std::fs::write(world.rootfs().join("lib-state/sub/file"), "kept").expect("written");
    symlink("sub/file", world.rootfs().join("lib-state/link")).expect("link");
    world.add_mount(json!({"destination": "/lib-state", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    assert_eq!(
        world.sh("cat /lib-state/link; echo x > /lib-state/sub/file").ok(),
        "kept"
    );
    assert_eq!(
        std::fs::read_to_string(world.rootfs().join("lib-state/sub/file")).expect("there"),
        "kept"
    );
}
