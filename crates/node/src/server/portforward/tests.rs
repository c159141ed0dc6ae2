use super::channels::Encoding;
use super::*;
use expect_test::expect;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

#[test]
fn ports_are_read_as_the_kubelet_reads_them() {
    let read_as = |encoding: Encoding, query: &str| {
        let pairs: Vec<_> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        ports(&pairs, encoding.most_ports()).map_err(|refusal| refusal.message)
    };
    let read = |query: &str| read_as(Encoding::Binary, query);
    assert_eq!(read("port=80&port=443,8080&other=1"), Ok(vec![80, 443, 8080]));
    assert_eq!(read("ports=80"), Ok(vec![80]));
    expect!["query parameter \"port\" is required"].assert_eq(&read("").expect_err("none"));
    expect!["port \"0\" must be > 0"].assert_eq(&read("port=0").expect_err("zero"));
    expect!["unable to parse \"65536\" as a port"].assert_eq(&read("port=65536").expect_err("too much"));
    for (encoding, most, message) in [
        (
            Encoding::Binary,
            100,
            expect!["no more than 100 ports can be forwarded at once"],
        ),
        (
            Encoding::Base64,
            40,
            expect!["no more than 40 ports can be forwarded at once"],
        ),
    ] {
        let many = |count: usize| format!("port={}", vec!["1"; count].join(","));
        assert_eq!(read_as(encoding, &many(most)).map(|ports| ports.len()), Ok(most));
        message.assert_eq(&read_as(encoding, &many(most + 1)).expect_err("too many"));
    }
}

#[test]
fn channels_are_told_apart_in_bytes_and_in_text() {
    for encoding in [Encoding::Binary, Encoding::Base64] {
        for channel in [0, 1, 9, u8::try_from(2 * encoding.most_ports() - 1).expect("a byte")] {
            let message = encoding.wrap(channel, b"\x00\xffbytes");
            let read = encoding
                .unwrap(message)
                .map(|(channel, bytes)| (channel, bytes.to_vec()));
            assert_eq!(read, Some((channel, b"\x00\xffbytes".to_vec())), "{encoding:?}");
        }
        assert_eq!(encoding.unwrap(axum::extract::ws::Message::Text("".into())), None);
    }
    assert_eq!(
        Encoding::Base64.unwrap(axum::extract::ws::Message::Text("0*".into())),
        None
    );
    assert_eq!(
        Encoding::Base64.unwrap(axum::extract::ws::Message::Text("+aGk=".into())),
        None
    );
}

#[test]
fn errors_read_as_gos() {
    let refused = std::io::Error::from_raw_os_error(libc::ECONNREFUSED);
    expect!["connect: connection refused"].assert_eq(&reason(&refused));
    expect!["connect: connection timed out"].assert_eq(&reason(&std::io::ErrorKind::TimedOut.into()));
    expect!["the pod's sandbox is gone"].assert_eq(&reason(&std::io::Error::other("the pod's sandbox is gone")));
}

/// A client made of queues; `None` is its half-close.
struct Client(mpsc::Receiver<Option<Bytes>>);

impl FromClient for Client {
    async fn read(&mut self) -> Result<Option<Bytes>, Gone> {
        self.0.recv().await.ok_or(Gone)
    }
}

struct Heard(mpsc::Sender<Option<Bytes>>);

impl ToClient for Heard {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.0.send(Some(bytes)).await.map_err(|_| Gone)
    }

    async fn finish(&mut self) {
        let _ = self.0.send(None).await;
    }
}

struct Relayed {
    pod: TcpStream,
    say: mpsc::Sender<Option<Bytes>>,
    hear: mpsc::Receiver<Option<Bytes>>,
    relay: tokio::task::JoinHandle<Result<(), Gone>>,
    leave: tokio::sync::oneshot::Sender<()>,
}

async fn relayed() -> Relayed {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let near = TcpStream::connect(listener.local_addr().expect("an address"))
        .await
        .expect("connected");
    let (pod, _) = listener.accept().await.expect("accepted");
    let (say, from) = mpsc::channel(1);
    let (to, hear) = mpsc::channel(1);
    let (leave, left) = tokio::sync::oneshot::channel();
    let gone = async {
        if left.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let relay = tokio::spawn(relay(near, Client(from), Heard(to), gone));
    Relayed {
        pod,
        say,
        hear,
        relay,
        leave,
    }
}

#[tokio::test]
async fn a_client_that_has_said_everything_still_hears_the_answer() {
    let mut case = relayed().await;
    case.say
        .send(Some(Bytes::from_static(b"question")))
        .await
        .expect("said");
    case.say.send(None).await.expect("said");
    let mut question = String::new();
    case.pod.read_to_string(&mut question).await.expect("read");
    assert_eq!(question, "question");
    case.pod.write_all(b"answer").await.expect("written");
    drop(case.pod);
    assert_eq!(case.hear.recv().await, Some(Some(Bytes::from_static(b"answer"))));
    assert_eq!(case.hear.recv().await, Some(None));
    assert!(case.relay.await.expect("ends").is_ok());
}

#[tokio::test]
async fn whoever_leaves_takes_the_other_along() {
    // The client, while the pod is silent.
    let mut case = relayed().await;
    drop(case.say);
    assert!(case.relay.await.expect("ends").is_err());
    assert_eq!(case.pod.read(&mut [0; 8]).await.expect("read"), 0);

    // The pod, while the client is.
    let mut case = relayed().await;
    drop(case.pod);
    assert_eq!(case.hear.recv().await, Some(None));
    assert!(case.relay.await.expect("ends").is_ok());
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_its_pod_neither_reads_nor_speaks() {
    // Half-closed, and waiting for an answer.
    let mut case = relayed().await;
    case.say.send(None).await.expect("said");
    assert_eq!(case.pod.read(&mut [0; 8]).await.expect("read"), 0);
    case.leave.send(()).expect("a relay");
    assert!(case.relay.await.expect("ends").is_err());

    // With more to say than the pod takes.
    let case = relayed().await;
    let say = case.say.clone();
    let saying = tokio::spawn(async move { while say.send(Some(vec![0; 1 << 20].into())).await.is_ok() {} });
    case.say
        .reserve()
        .await
        .expect("the relay reads until the socket is full");
    case.leave.send(()).expect("a relay");
    assert!(case.relay.await.expect("ends").is_err());
    saying.await.expect("ends");
}

#[tokio::test]
async fn a_port_that_reads_nothing_is_given_up_and_holds_up_others_no_longer() {
    use super::channels::input;
    let (mut input, mut from, gone) = input();
    let soon = Duration::from_millis(20);
    let much = vec![7; 1 << 20];
    assert!(input.say(&much, soon).await.is_err());
    drop(input);
    gone.await;
    // What fitted can still be read.
    let mut read = 0;
    while let Ok(Some(bytes)) = from.read().await {
        read += bytes.len();
    }
    assert!(read > 0 && read < much.len(), "{read}");
}

/// What a shim of the given number leaves behind.
fn state_dir(pid: i32, start_time_ticks: u64) -> (tempfile::TempDir, catamaran_shim::state_dir::StateDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let state = catamaran_shim::state_dir::StateDir::new(directory.path());
    let config = serde_json::from_value(serde_json::json!({
        "uid": "u", "namespace": "ns", "name": "p", "hostname": "p", "state_dir": directory.path(), "cgroup": "/",
        "share_process_namespace": false,
    }));
    let sandbox = catamaran_shim::state_dir::Sandbox {
        pid,
        start_time_ticks,
        config: config.expect("a configuration"),
    };
    state.write_sandbox(&sandbox).expect("written");
    (directory, state)
}

#[test]
fn a_namespace_is_that_of_the_shim_whose_number_it_was_opened_by() {
    let open = |dir: &_, pid| namespace::open(dir, pid).map(drop).map_err(|error| error.to_string());
    let born = |pid| catamaran_shim::state_dir::start_time_ticks(pid).expect("it runs");
    let own = i32::try_from(std::process::id()).expect("small");
    let parent = i32::try_from(std::os::unix::process::parent_id()).expect("small");
    // The sandbox was made again: its shim lives, but the number is of the one before.
    let (_kept, dir) = state_dir(own, born(own));
    assert_eq!(open(&dir, parent), Err(GONE.to_owned()));
    // Its number has been given to another process.
    let (_kept, dir) = state_dir(own, born(own) - 1);
    assert_eq!(open(&dir, own), Err(GONE.to_owned()));
    // It lives, in the namespace that is the agent's too.
    let (_kept, dir) = state_dir(own, born(own));
    expect!["the pod's sandbox has no network namespace of its own"].assert_eq(&open(&dir, own).expect_err("refused"));
}
