//! What is carried over one connection, with a node made of streams.

use super::*;
use catamaran_spdy::Incoming;
use std::collections::HashMap;

/// A port that never stops talking, a byte at a time; every other one says what it was told.
const ENDLESS: u16 = 1;

/// Forwards as a node does: the error stream ends after the data stream has.
async fn node(mut incoming: Incoming) {
    let (mut errors, mut forwards) = (HashMap::new(), JoinSet::new());
    while let Some(offer) = incoming.next().await {
        let header = |name: &str| offer.headers().get(name).unwrap_or_default().to_owned();
        let (kind, port, request) = (header("streamType"), header("port"), header("requestID"));
        let stream = offer.accept().await.expect("accepted");
        if kind == "error" {
            errors.insert(request, stream);
            continue;
        }
        let error = errors.remove(&request).expect("the error stream comes first");
        forwards.spawn(async move {
            if port == ENDLESS.to_string() {
                endless(stream).await;
            } else {
                echo(stream).await;
            }
            let _ = error.writer.finish().await;
        });
    }
}

async fn endless(mut stream: Stream) {
    while stream.writer.write(b"x"[..].into()).await.is_ok() {}
}

async fn echo(mut stream: Stream) {
    while let Some(bytes) = stream.reader.read().await {
        stream.writer.write(bytes).await.expect("written");
    }
    stream.writer.finish().await.expect("finished");
}

/// A connection of a local client, and our side of it.
async fn local() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("connected");
    (client, listener.accept().await.expect("accepted").0)
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_sent_something_harms_no_other() {
    let (near, far) = tokio::io::duplex(4096);
    let (session, _, ours) = session::start(near, Role::Client, PATIENCE);
    let (_theirs, incoming, theirs) = session::start(far, Role::Server, PATIENCE);
    let running = [tokio::spawn(ours), tokio::spawn(theirs)];
    let node = tokio::spawn(node(incoming));

    let (mut other, carried) = local().await;
    let (going_on, far) = (session.clone(), carried);
    let going_on = tokio::spawn(async move { carry(far, 2, 2, &going_on).await });
    let mut said = [0; 5];
    other.write_all(b"first").await.expect("said");
    other.read_exact(&mut said).await.expect("heard");

    let (mut leaving, carried) = local().await;
    let leaver = async {
        leaving.shutdown().await.expect("half-closed");
        leaving.read_exact(&mut [0; 1000]).await.expect("heard");
        drop(leaving);
    };
    let (_, carried) = tokio::join!(leaver, carry(carried, ENDLESS, 1, &session));
    carried.expect("no error");

    other.write_all(b"again").await.expect("said");
    other.read_exact(&mut said).await.expect("heard");
    assert_eq!(&said, b"again");
    other.shutdown().await.expect("half-closed");
    going_on.await.expect("no panic").expect("no error");
    // Nothing of the other is left: it ends when it is told to.
    session.close().await;
    for end in running {
        end.await.expect("no panic").expect("a clean end");
    }
    node.await.expect("no panic");
}
