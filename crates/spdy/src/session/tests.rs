//! Both sides of a connection, over a pipe in memory.

use super::*;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

const IDLE: Duration = Duration::from_secs(3600);

struct Pair {
    client: Session,
    server: Session,
    incoming: Incoming,
    ends: [JoinHandle<Result<(), Error>>; 2],
}

fn pair() -> Pair {
    let (near, far) = tokio::io::duplex(4096);
    let (client, _, near) = start(near, Role::Client, IDLE);
    let (server, incoming, far) = start(far, Role::Server, IDLE);
    let ends = [tokio::spawn(near), tokio::spawn(far)];
    Pair {
        client,
        server,
        incoming,
        ends,
    }
}

async fn all(reader: &mut Reader) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = reader.read().await {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

#[tokio::test]
async fn many_streams_carry_much_in_both_directions_and_half_close() {
    let mut pair = pair();
    let echo = tokio::spawn(async move {
        let mut conversations = Vec::new();
        while let Some(offer) = pair.incoming.next().await {
            conversations.push(tokio::spawn(async move {
                let name = offer.headers().get("Name").map(str::to_owned);
                let mut stream = offer.accept().await.expect("accepted");
                // Everything is heard before anything is said: the client has only closed its own side.
                let heard = all(&mut stream.reader).await;
                stream
                    .writer
                    .write(name.unwrap_or_default().into())
                    .await
                    .expect("written");
                stream.writer.write(heard.into()).await.expect("written");
                stream.writer.finish().await.expect("finished");
            }));
        }
        for conversation in conversations {
            conversation.await.expect("a conversation");
        }
    });
    let clients = (0..20_usize).map(|number| {
        let client = pair.client.clone();
        tokio::spawn(async move {
            let name = format!("stream {number};");
            let headers = Headers::new([("name", name.as_str())]);
            let mut stream = client.open(headers).await.expect("opened");
            let said = vec![number as u8; 200_000 + number];
            stream.writer.write(said.clone().into()).await.expect("written");
            stream.writer.finish().await.expect("finished");
            let heard = all(&mut stream.reader).await;
            assert_eq!(heard, [name.as_bytes(), &said].concat());
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client");
    }
    pair.client.close().await;
    echo.await.expect("the server");
    for end in pair.ends {
        end.await.expect("no panic").expect("a clean end");
    }
}

#[tokio::test]
async fn a_refused_stream_and_a_dropped_one_are_reset() {
    let mut pair = pair();
    let server = tokio::spawn(async move {
        pair.incoming.next().await.expect("an offer").refuse().await;
        let stream = pair
            .incoming
            .next()
            .await
            .expect("an offer")
            .accept()
            .await
            .expect("accepted");
        drop(stream);
        pair.incoming
            .next()
            .await
            .expect("an offer")
            .accept()
            .await
            .expect("accepted")
    });
    assert!(pair.client.open(Headers::default()).await.is_err());
    let mut stream = pair.client.open(Headers::default()).await.expect("opened");
    assert_eq!(stream.reader.read().await, None);
    stream.writer.gone().await;
    assert_eq!(stream.writer.write(Bytes::from_static(b"x")).await, Err(Reset));
    // The client's reset ends the server's side too.
    let stream = pair.client.open(Headers::default()).await.expect("opened");
    let mut theirs = server.await.expect("the server");
    stream.writer.reset(reset::CANCEL).await;
    assert_eq!(theirs.reader.read().await, None);
    theirs.writer.gone().await;
    assert!(pair.server.0.state.lock().open.is_empty());
}

#[tokio::test]
async fn the_end_of_the_connection_ends_everything() {
    let mut pair = pair();
    let stream = tokio::spawn(async move { pair.client.open(Headers::default()).await });
    let mut theirs = pair
        .incoming
        .next()
        .await
        .expect("an offer")
        .accept()
        .await
        .expect("accepted");
    let ours = stream.await.expect("no panic").expect("opened");
    pair.ends[0].abort();
    assert_eq!(theirs.reader.read().await, None);
    theirs.writer.gone().await;
    pair.server.closed().await;
    assert!(pair.incoming.next().await.is_none());
    ours.writer.gone().await;
}

/// A peer made of frames.
struct Raw {
    io: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Raw {
    async fn send(&mut self, frames: &[Frame]) {
        let mut bytes = BytesMut::new();
        for frame in frames {
            self.encoder.encode(frame, &mut bytes);
        }
        self.io.write_all(&bytes).await.expect("sent");
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).expect("a frame") {
                return Some(frame);
            }
            if self.io.read_buf(&mut self.buffer).await.expect("read") == 0 {
                return None;
            }
        }
    }
}

fn against_raw(idle: Duration) -> (Raw, Session, Incoming, JoinHandle<Result<(), Error>>) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (server, incoming, connection) = start(far, Role::Server, idle);
    let raw = Raw {
        io: near,
        encoder: Encoder::default(),
        decoder: Decoder::default(),
        buffer: BytesMut::new(),
    };
    (raw, server, incoming, tokio::spawn(connection))
}

fn syn(stream: u32) -> Frame {
    Frame::SynStream {
        stream,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: Headers::default(),
    }
}

#[tokio::test]
async fn windows_hold_for_peers_that_keep_them_and_only_for_those() {
    for counts in [true, false] {
        let (mut raw, _server, mut incoming, connection) = against_raw(IDLE);
        if counts {
            let values = vec![(INITIAL_WINDOW_SIZE, 1000)];
            raw.send(&[Frame::Settings { values }]).await;
        }
        raw.send(&[syn(1)]).await;
        let mut stream = incoming
            .next()
            .await
            .expect("an offer")
            .accept()
            .await
            .expect("accepted");
        assert!(matches!(raw.next().await, Some(Frame::SynReply { stream: 1, .. })));
        let writing = tokio::spawn(async move {
            stream.writer.write(vec![7; 100_000].into()).await.expect("written");
            stream.writer.finish().await.expect("finished");
        });
        let (mut got, mut told) = (0, 1000);
        loop {
            let Some(Frame::Data { fin, bytes, .. }) = raw.next().await else {
                panic!("no data")
            };
            got += bytes.len();
            if fin {
                break;
            }
            if counts {
                assert!(got <= told, "{got} bytes came, and {told} were allowed");
                if got == told {
                    told += 5000;
                    let delta = 5000;
                    let both = [0, 1].map(|stream| Frame::WindowUpdate { stream, delta });
                    raw.send(&both).await;
                }
            }
        }
        assert_eq!(got, 100_000);
        writing.await.expect("written");
        drop(raw);
        connection.await.expect("no panic").expect("a clean end");
    }
}

#[tokio::test]
async fn room_is_told_as_streams_are_read() {
    let (mut raw, _server, mut incoming, _connection) = against_raw(IDLE);
    let bytes = Bytes::from(vec![1; 40_000]);
    let data = Frame::Data {
        stream: 1,
        fin: true,
        bytes,
    };
    raw.send(&[syn(1), data]).await;
    let mut stream = incoming
        .next()
        .await
        .expect("an offer")
        .accept()
        .await
        .expect("accepted");
    assert_eq!(all(&mut stream.reader).await.len(), 40_000);
    assert!(matches!(raw.next().await, Some(Frame::SynReply { .. })));
    let (mut of_stream, mut of_all) = (0, 0);
    while of_all == 0 {
        match raw.next().await {
            Some(Frame::WindowUpdate { stream: 0, delta }) => of_all = delta,
            Some(Frame::WindowUpdate { stream: 1, delta }) => of_stream = delta,
            other => panic!("{other:?}"),
        }
    }
    assert!(of_all >= WINDOW_STEP && (of_stream == 0 || of_stream == of_all));
}

#[tokio::test]
async fn pings_are_answered_and_strange_streams_are_not() {
    let (mut raw, server, _incoming, connection) = against_raw(IDLE);
    raw.send(&[Frame::Ping { id: 2 }, Frame::Ping { id: 1 }, syn(2), syn(5), syn(3)])
        .await;
    assert_eq!(raw.next().await, Some(Frame::Ping { id: 1 }));
    for stream in [2, 3] {
        let status = reset::PROTOCOL_ERROR;
        assert_eq!(raw.next().await, Some(Frame::RstStream { stream, status }));
    }
    server.close().await;
    let goodbye = Frame::GoAway {
        last_good_stream: 5,
        status: 0,
    };
    assert_eq!(raw.next().await, Some(goodbye));
    // What is open may come to its end.
    let status = reset::CANCEL;
    raw.send(&[Frame::RstStream { stream: 5, status }]).await;
    assert_eq!(raw.next().await, None);
    drop(raw);
    connection.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn there_is_an_end_to_how_many_streams_one_may_have() {
    let (mut raw, _server, mut incoming, _connection) = against_raw(IDLE);
    let kept = tokio::spawn(async move {
        let mut kept = Vec::new();
        while kept.len() < MAX_STREAMS {
            kept.push(incoming.next().await.expect("an offer"));
        }
        kept
    });
    let last = 1 + 2 * MAX_STREAMS as u32;
    for stream in (1..=last).step_by(2) {
        raw.send(&[syn(stream)]).await;
    }
    let refused = Frame::RstStream {
        stream: last,
        status: reset::REFUSED_STREAM,
    };
    assert_eq!(raw.next().await, Some(refused));
    assert_eq!(kept.await.expect("no panic").len(), MAX_STREAMS);
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let (_raw, server, _incoming, connection) = against_raw(Duration::from_millis(20));
    server.closed().await;
    let ended = connection.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Idle(_))), "{ended:?}");
}

#[tokio::test]
async fn what_is_not_spdy_ends_a_connection() {
    let (mut raw, _server, _incoming, connection) = against_raw(IDLE);
    raw.io
        .write_all(b"GET / HTTP/1.1\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff")
        .await
        .expect("sent");
    raw.io.shutdown().await.expect("shut");
    // Letters have the high bit clear: this is data for no stream, and then a frame of a version nobody has.
    let ended = connection.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Frame(_)) | Ok(())), "{ended:?}");
}
