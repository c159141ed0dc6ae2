//! What containers run where a shell is not enough.

use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let word = |index: usize| args.get(index).and_then(|arg| arg.to_str()).unwrap_or_default();
    match word(0) {
        "syscalls" => syscalls(),
        "descriptors" => descriptors(),
        "eat-memory" => eat_memory(),
        "threads" => println!("{}", std::thread::spawn(|| 6 * 7).join().expect("a thread")),
        other => {
            eprintln!("unknown probe {other:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Makes calls that a filter may answer, and prints the error numbers.
fn syscalls() {
    let show = |name: &str, result: libc::c_long| {
        let errno = if result < 0 {
            std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
        } else {
            0
        };
        println!("{name} {errno}");
    };
    // SAFETY: with these arguments the calls fail or do nothing, whoever answers them.
    unsafe {
        show("clone3", libc::syscall(libc::SYS_clone3, 0, 0));
        show("keyctl", libc::syscall(libc::SYS_keyctl, 0, 0, 0));
        show("future", libc::syscall(5000, 0));
        show("unshare", libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER));
        show("vsock", libc::syscall(libc::SYS_socket, 40, libc::SOCK_STREAM, 0));
        show("getpid", libc::syscall(libc::SYS_getpid));
        show(
            "mkdir",
            libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, c"/tmp/made".as_ptr(), 0o700),
        );
    }
}

/// Prints the open descriptors, and what can be read from the first that is not a standard stream.
fn descriptors() {
    // SAFETY: asks for flags; reads into a buffer that outlives the call.
    unsafe {
        let open: Vec<_> = (0..1024)
            .filter(|number| libc::fcntl(*number, libc::F_GETFD) >= 0)
            .collect();
        println!("{open:?}");
        let mut text = [0_u8; 64];
        if let Ok(count) = usize::try_from(libc::read(3, text.as_mut_ptr().cast(), text.len())) {
            println!("{}", String::from_utf8_lossy(&text[..count]));
        }
    }
}

fn eat_memory() {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    while eaten.len() < 512 {
        eaten.push(vec![1; 1 << 20]);
    }
    println!("survived {}", eaten.len());
}
