use super::channels::Encoding;
use super::*;
use expect_test::expect;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

#[test]
fn ports_are_read_as_the_kubelet_reads_them() {
    let read = |query: &str| {
        let pairs: Vec<_> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        ports(&pairs).map_err(|refusal| refusal.message)
    };
    assert_eq!(read("port=80&port=443,8080&other=1"), Ok(vec![80, 443, 8080]));
    assert_eq!(read("ports=80"), Ok(vec![80]));
    expect!["query parameter \"port\" is required"].assert_eq(&read("").expect_err("none"));
    expect!["port \"0\" must be > 0"].assert_eq(&read("port=0").expect_err("zero"));
    expect!["unable to parse \"65536\" as a port"].assert_eq(&read("port=65536").expect_err("too much"));
    expect!["no more than 100 ports can be forwarded at once"]
        .assert_eq(&read(&format!("port={}", vec!["1"; 101].join(","))).expect_err("too many"));
}

#[test]
fn channels_are_told_apart_in_bytes_and_in_text() {
    for encoding in [Encoding::Binary, Encoding::Base64] {
        for channel in [0, 1, 9, 77] {
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
    relay: tokio::task::JoinHandle<()>,
}

async fn relayed() -> Relayed {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let near = TcpStream::connect(listener.local_addr().expect("an address"))
        .await
        .expect("connected");
    let (pod, _) = listener.accept().await.expect("accepted");
    let (say, from) = mpsc::channel(1);
    let (to, hear) = mpsc::channel(1);
    let relay = tokio::spawn(relay(near, Client(from), Heard(to)));
    Relayed { pod, say, hear, relay }
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
    case.relay.await.expect("ends");
}

#[tokio::test]
async fn whoever_leaves_takes_the_other_along() {
    // The client, while the pod is silent.
    let mut case = relayed().await;
    drop(case.say);
    case.relay.await.expect("ends");
    assert_eq!(case.pod.read(&mut [0; 8]).await.expect("read"), 0);

    // The pod, while the client is.
    let mut case = relayed().await;
    drop(case.pod);
    assert_eq!(case.hear.recv().await, Some(None));
    case.relay.await.expect("ends");
}
