//! Real namespaces, real traffic. Needs root.

use catamaran_net::{Config, Dialer, Ipv4Net, PodNet, PodNetwork, cleanup};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Without root nothing here can run: say so, and fail where a skip would hide it.
fn root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "these tests need root");
    eprintln!("skipped: needs root");
    false
}

/// An instance whose links and rules go away with the test, however it ends.
struct Instance(String);

impl Instance {
    fn new(number: u32) -> Self {
        Self(format!("{:05x}{number:03x}", std::process::id() & 0xf_ffff))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        cleanup(&self.0).expect("clean up");
    }
}

async fn network(instance: &Instance, state: &tempfile::TempDir, in_use: Vec<Ipv4Addr>) -> PodNetwork {
    let config = Config {
        instance: instance.0.clone(),
        state_dir: state.path().to_owned(),
        pod_cidr: None,
        pool: 2,
    };
    PodNetwork::start(config, in_use).await.expect("network")
}

/// Runs `work` on a thread of its own inside the namespace.
fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::move_into_link_name_space(namespace, Some(rustix::thread::LinkNameSpaceType::Network))
                .expect("enter the namespace");
            work()
        });
        thread.join().expect("thread inside the namespace")
    })
}

/// Connects from where `dial` runs to a listener where `listen` runs; returns the peer address the listener saw.
fn exchange(target: Ipv4Addr, listen: Option<&PodNet>, dial: Option<&PodNet>) -> SocketAddr {
    let bind = || TcpListener::bind((target, 0)).expect("listen");
    let listener = listen.map_or_else(bind, |pod| inside(pod.netns.as_fd(), bind));
    let address = listener.local_addr().expect("address");
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("connect");
    let mut client = dial.map_or_else(connect, |pod| inside(pod.netns.as_fd(), connect));
    let (mut server, peer) = listener.accept().expect("accept");
    client.write_all(b"ahoy").expect("write");
    let mut received = [0; 4];
    server.read_exact(&mut received).expect("read");
    assert_eq!(&received, b"ahoy");
    peer
}

#[tokio::test]
async fn pods_reach_each_other_the_host_and_the_world() {
    if !root() {
        return;
    }
    let (first, second) = (Instance::new(1), Instance::new(2));
    let (first_state, second_state) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let ours = network(&first, &first_state, vec![]).await;
    let theirs = network(&second, &second_state, vec![]).await;
    assert_ne!(
        ours.cidr(),
        theirs.cidr(),
        "two clusters on one machine choose different blocks"
    );

    let (a, b) = (ours.acquire().await.expect("pod"), ours.acquire().await.expect("pod"));
    let outside = theirs.acquire().await.expect("pod");
    tokio::task::spawn_blocking(move || {
        let gateway = ours.node_ip();
        assert_eq!(exchange(b.ip, Some(&b), Some(&a)).ip(), a.ip, "pod to pod, unmasked");
        assert_eq!(exchange(a.ip, Some(&a), None).ip(), gateway, "host to pod");
        assert_eq!(exchange(gateway, None, Some(&a)).ip(), a.ip, "pod to host, unmasked");
        assert_eq!(
            exchange(Ipv4Addr::LOCALHOST, Some(&a), Some(&a)).ip(),
            Ipv4Addr::LOCALHOST,
            "loopback"
        );
        let seen = exchange(outside.ip, Some(&outside), Some(&a)).ip();
        let std::net::IpAddr::V4(seen) = seen else {
            panic!("{seen} is not IPv4")
        };
        assert!(
            !ours.cidr().contains(seen) || seen == gateway,
            "egress is masqueraded, but {seen} was seen"
        );
    })
    .await
    .expect("traffic");
}

#[tokio::test]
async fn the_block_is_remembered_and_addresses_in_use_are_spared() {
    if !root() {
        return;
    }
    let instance = Instance::new(3);
    let state = tempfile::tempdir().expect("dir");
    let network_before = network(&instance, &state, vec![]).await;
    let block = network_before.cidr();
    let running = network_before.acquire().await.expect("pod");
    network_before.stop(false).await.expect("stop");

    let network_after = network(&instance, &state, vec![running.ip]).await;
    assert_eq!(network_after.cidr(), block);
    for _ in 0..8 {
        let pod = network_after.acquire().await.expect("pod");
        assert_ne!(pod.ip, running.ip);
        network_after.release(pod.ip);
    }
}

#[tokio::test]
async fn an_exhausted_block_says_so_and_recovers() {
    if !root() {
        return;
    }
    let instance = Instance::new(4);
    let state = tempfile::tempdir().expect("dir");
    let block: Ipv4Net = "10.43.255.0/29".parse().expect("block");
    let config = Config {
        instance: instance.0.clone(),
        state_dir: state.path().to_owned(),
        pod_cidr: Some(block),
        pool: 1,
    };
    let network = PodNetwork::start(config, vec![]).await.expect("network");
    let mut pods = Vec::new();
    let refused = loop {
        match network.acquire().await {
            Ok(pod) => pods.push(pod),
            Err(error) => break error,
        }
    };
    assert_eq!(pods.len(), 5);
    assert_eq!(refused.to_string(), "all 5 pod addresses of 10.43.255.0/29 are in use");
    // The next refusal goes into the pool meanwhile.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let freed = pods.pop().expect("a pod");
    network.release(freed.ip);
    drop(freed.netns);
    let again = network.acquire().await.expect("refusals of before do not count");
    assert_eq!(again.ip, freed.ip);
}

#[tokio::test]
async fn cleanup_leaves_no_link() {
    if !root() {
        return;
    }
    let instance = Instance::new(5);
    let state = tempfile::tempdir().expect("dir");
    let network = network(&instance, &state, vec![]).await;
    let pod = network.acquire().await.expect("pod");
    let links = || {
        std::fs::read_dir("/sys/class/net")
            .expect("links")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.contains(&instance.0))
            .count()
    };
    assert!(links() >= 2, "the anchor and a pod's link");
    network.stop(true).await.expect("stop");
    drop(pod);
    assert_eq!(links(), 0);
}

#[tokio::test]
async fn a_dialer_reaches_the_loopback_of_a_pod_and_stays_outside() {
    if !root() {
        return;
    }
    let instance = Instance::new(9);
    let state = tempfile::tempdir().expect("directory");
    let network = network(&instance, &state, Vec::new()).await;
    let pod = network.acquire().await.expect("pod");
    let dialer = Dialer::default();
    let namespace = || pod.netns.try_clone().expect("clone");
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = inside(pod.netns.as_fd(), || TcpListener::bind(address));
        let Ok(listener) = listener else {
            eprintln!("no {address} in the namespace");
            continue;
        };
        let port = listener.local_addr().expect("address").port();
        for _ in 0..20 {
            dialer.connect(namespace(), port).await.expect("connected");
        }
        drop(listener);
        let refused = dialer.connect(namespace(), port).await.expect_err("nobody listens");
        assert_eq!(refused.v4.kind(), std::io::ErrorKind::ConnectionRefused);
        assert_ne!(refused.v6.kind(), std::io::ErrorKind::NotFound);
    }
    // The host's own loopback is another one.
    let host = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = host.local_addr().expect("address").port();
    assert!(dialer.connect(namespace(), port).await.is_err());
}
