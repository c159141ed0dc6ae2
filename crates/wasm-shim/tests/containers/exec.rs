//! `exec` into a wasm container.

use crate::harness::Test;
use crate::world::{World, guest};
use std::fs;

pub(crate) const TESTS: &[Test] = &[
    ("exec::a_command_from_a_volume_runs", a_command_from_a_volume_runs),
    ("exec::a_service_is_no_command", a_service_is_no_command),
    ("exec::broken_wasm_is_explained", broken_wasm_is_explained),
    ("exec::what_is_not_there_is_127", what_is_not_there_is_127),
    ("exec::what_is_not_wasm_is_126", what_is_not_wasm_is_126),
];

fn a_command_from_a_volume_runs() {
    let mut world = World::of_guest("sleep");
    let volume = world.volume("/data", true);
    guest(&volume, "echo");
    guest(&volume, "exit");
    let container = world.start().expect("started");
    let finished = world
        .exec(&container, &["/data/echo.wasm", "one"])
        .expect("started")
        .finish();
    assert_eq!(
        (finished.code, finished.stdout.as_str()),
        (Some(0), "/data/echo.wasm\none\nPATH=/data\nWHO=exec\n"),
        "{finished:?}"
    );
    let finished = world.exec(&container, &["exit"]).expect("found in PATH").finish();
    assert_eq!(finished.code, Some(7), "{finished:?}");
}

fn what_is_not_there_is_127() {
    let mut world = World::of_guest("sleep");
    let container = world.start().expect("started");
    let error = world.exec(&container, &["ls", "-l"]).map(|_| ()).expect_err("refused");
    assert_eq!(error.exit_code, 127);
    assert!(
        error
            .message
            .starts_with("\"ls\" was not found in the container's files: a wasm container has"),
        "{error}"
    );
}

fn what_is_not_wasm_is_126() {
    let mut world = World::of_guest("sleep");
    let volume = world.volume("/data", true);
    fs::write(volume.join("script"), "#!/bin/sh\n").expect("written");
    let container = world.start().expect("started");
    let error = world.exec(&container, &["script"]).map(|_| ()).expect_err("refused");
    assert_eq!(error.exit_code, 126);
    assert!(
        error.message.starts_with("\"/data/script\" is not a WebAssembly file"),
        "{error}"
    );
}

fn broken_wasm_is_explained() {
    let mut world = World::of_guest("sleep");
    let volume = world.volume("/data", true);
    fs::write(volume.join("broken.wasm"), b"\0asm\x01\0\0\0\xff").expect("written");
    let container = world.start().expect("started");
    let finished = world
        .exec(&container, &["/data/broken.wasm"])
        .expect("it is a wasm file")
        .finish();
    assert_eq!(finished.code, Some(126), "{finished:?}");
    assert!(
        finished
            .stderr
            .starts_with("catamaran: cannot run \"/data/broken.wasm\": it is not a valid"),
        "{finished:?}"
    );
}

fn a_service_is_no_command() {
    let mut world = World::of_guest("sleep");
    let volume = world.volume("/data", true);
    fs::copy(crate::world::HELLO, volume.join("hello.wasm")).expect("copied");
    let container = world.start().expect("started");
    let finished = world.exec(&container, &["hello"]).expect("it is a wasm file").finish();
    assert_eq!(finished.code, Some(126), "{finished:?}");
    assert!(
        finished.stderr.contains("it is a wasi:http service, not a command"),
        "{finished:?}"
    );
}
