//! What the tests need of the kernel and no safe interface offers.

/// A network namespace with nothing but loopback, so that ports are ours.
pub(crate) fn own_network() {
    // SAFETY: one thread; the ioctl reads a structure that outlives it.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNET), 0, "a network namespace needs root");
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        assert_eq!(
            libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request),
            0,
            "loopback cannot be brought up"
        );
        libc::close(socket);
    }
}
