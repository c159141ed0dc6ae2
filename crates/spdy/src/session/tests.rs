//! Both sides of a connection, over a pipe in memory.

use super::*;
use crate::frame::{Decoder, Encoder, INITIAL_WINDOW_SIZE, LONGEST_DATA};
use bytes::{Bytes, BytesMut};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

const IDLE: Duration = Duration::from_secs(3600);
const PATIENT: Patience = Patience {
    idle: IDLE,
    stall: None,
};

struct Pair {
    client: Session,
    server: Session,
    incoming: Incoming,
    ends: [JoinHandle<Result<(), Error>>; 2],
}

fn pair() -> Pair {
    let (near, far) = tokio::io::duplex(4096);
    let (client, _, near) = start(near, Role::Client, PATIENT);
    let (server, incoming, far) = start(far, Role::Server, PATIENT);
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
        pair.incoming.next().await.expect("an offer").refuse();
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
    stream.writer.reset(reset::CANCEL);
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

/// A connection whose other side is made of frames, after it has said that it counts.
async fn against_raw(patience: Patience) -> (Raw, Session, Incoming, JoinHandle<Result<(), Error>>) {
    against_narrow_raw(1 << 20, patience).await
}

/// No more than `width` bytes are under way in either direction.
async fn against_narrow_raw(
    width: usize,
    patience: Patience,
) -> (Raw, Session, Incoming, JoinHandle<Result<(), Error>>) {
    let (near, far) = tokio::io::duplex(width);
    let (server, incoming, connection) = start(far, Role::Server, patience);
    let mut raw = Raw {
        io: near,
        encoder: Encoder::default(),
        decoder: Decoder::default(),
        buffer: BytesMut::new(),
    };
    let connection = tokio::spawn(connection);
    let (stream, delta) = (0, MOST_HELD as u32 - WINDOW);
    assert_eq!(raw.next().await, Some(Frame::WindowUpdate { stream, delta }));
    (raw, server, incoming, connection)
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
        let (mut raw, _server, mut incoming, connection) = against_raw(PATIENT).await;
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
    let (mut raw, _server, mut incoming, _connection) = against_raw(PATIENT).await;
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
    let (mut raw, server, _incoming, connection) = against_raw(PATIENT).await;
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
    let (mut raw, _server, mut incoming, _connection) = against_raw(PATIENT).await;
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
    let (_raw, server, _incoming, connection) = against_raw(impatient()).await;
    server.closed().await;
    let ended = connection.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Idle(_))), "{ended:?}");
}

/// Ends soon, and waits for no stream.
fn impatient() -> Patience {
    let idle = Duration::from_millis(100);
    Patience { idle, stall: None }
}

#[tokio::test]
async fn what_is_not_spdy_ends_a_connection() {
    let (mut raw, _server, _incoming, connection) = against_raw(PATIENT).await;
    raw.io.write_all(b"\x80\x02\0\x01\0\0\0\0").await.expect("sent");
    let ended = connection.await.expect("no panic");
    assert!(
        matches!(ended, Err(Error::Frame(frame::Error::Version(2)))),
        "{ended:?}"
    );
}

fn data(stream: u32, bytes: impl Into<Bytes>) -> Frame {
    let (fin, bytes) = (false, bytes.into());
    Frame::Data { stream, fin, bytes }
}

fn piece() -> Bytes {
    vec![7; LONGEST_DATA].into()
}

async fn accepted(raw: &mut Raw, incoming: &mut Incoming, id: u32) -> Stream {
    raw.send(&[syn(id)]).await;
    let offer = incoming.next().await.expect("an offer");
    let stream = offer.accept().await.expect("accepted");
    assert!(matches!(raw.next().await, Some(Frame::SynReply { stream, .. }) if stream == id));
    stream
}

#[tokio::test]
async fn a_stream_nobody_reads_holds_up_no_other_by_many_small_pieces() {
    let (mut raw, _server, mut incoming, _connection) = against_raw(PATIENT).await;
    let _unread = accepted(&mut raw, &mut incoming, 1).await;
    let mut read = accepted(&mut raw, &mut incoming, 3).await;
    for _ in 0..10_000 {
        raw.send(&[data(1, &b"x"[..])]).await;
    }
    raw.send(&[data(3, &b"other"[..])]).await;
    assert_eq!(read.reader.read().await, Some(Bytes::from_static(b"other")));
}

#[tokio::test]
async fn what_comes_beyond_a_window_has_its_stream_reset() {
    let (mut raw, server, mut incoming, _connection) = against_raw(PATIENT).await;
    let values = vec![(INITIAL_WINDOW_SIZE, 1000)];
    raw.send(&[Frame::Settings { values }]).await;
    let unread = accepted(&mut raw, &mut incoming, 1).await;
    let mut read = accepted(&mut raw, &mut incoming, 3).await;
    let most = WINDOW as usize / LONGEST_DATA;
    for _ in 0..most {
        raw.send(&[data(1, piece())]).await;
    }
    raw.send(&[data(3, &b"before"[..])]).await;
    assert_eq!(read.reader.read().await, Some(Bytes::from_static(b"before")));
    assert!(!unread.reader.was_reset());
    raw.send(&[data(1, &b"x"[..]), data(3, &b"after"[..])]).await;
    assert_eq!(read.reader.read().await, Some(Bytes::from_static(b"after")));
    unread.reader.cancelled().await;
    assert_eq!(server.0.state.lock().held, 0);
    let status = reset::FLOW_CONTROL_ERROR;
    let reset = Frame::RstStream { stream: 1, status };
    loop {
        match raw.next().await {
            Some(Frame::WindowUpdate { stream: 0, .. }) => {}
            other => break assert_eq!(other, Some(reset)),
        }
    }
}

#[tokio::test]
async fn a_stream_that_holds_up_the_others_is_reset_after_a_while() {
    let stall = Some(Duration::from_millis(20));
    let (mut raw, server, mut incoming, _connection) = against_raw(Patience { idle: IDLE, stall }).await;
    let unread = accepted(&mut raw, &mut incoming, 1).await;
    let mut read = accepted(&mut raw, &mut incoming, 3).await;
    for _ in 0..MOST_HELD_UNCOUNTED / LONGEST_DATA {
        raw.send(&[data(1, piece())]).await;
    }
    raw.send(&[data(3, &b"before"[..])]).await;
    assert_eq!(read.reader.read().await, Some(Bytes::from_static(b"before")));
    assert_eq!(server.0.state.lock().held, MOST_HELD_UNCOUNTED);
    raw.send(&[data(1, &b"x"[..]), data(3, &b"after"[..])]).await;
    assert_eq!(read.reader.read().await, Some(Bytes::from_static(b"after")));
    assert!(unread.reader.was_reset());
    assert_eq!(server.0.state.lock().held, 0);
}

#[tokio::test]
async fn all_streams_of_a_connection_hold_no_more_than_its_budget() {
    let stall = Some(Duration::from_millis(20));
    let (mut raw, server, mut incoming, _connection) = against_raw(Patience { idle: IDLE, stall }).await;
    let mut streams = Vec::new();
    let many = 2 * MOST_HELD / MOST_HELD_UNCOUNTED;
    for index in 0..many {
        streams.push(accepted(&mut raw, &mut incoming, 1 + 2 * index as u32).await);
    }
    for stream in &streams {
        for _ in 0..MOST_HELD_UNCOUNTED / LONGEST_DATA {
            raw.send(&[data(stream.id, piece())]).await;
            assert!(server.0.state.lock().held <= MOST_HELD);
        }
    }
    let goes = streams.iter().any(|stream| stream.reader.was_reset());
    assert!(goes, "{many} streams hold {}", server.0.state.lock().held);
}

#[tokio::test]
async fn a_dropped_reader_gives_back_the_room_of_what_it_has_not_read() {
    let (mut raw, server, mut incoming, _connection) = against_raw(PATIENT).await;
    let unread = accepted(&mut raw, &mut incoming, 1).await;
    let mut read = accepted(&mut raw, &mut incoming, 3).await;
    raw.send(&[data(1, vec![1; 40_000]), data(3, &b"x"[..])]).await;
    assert_eq!(read.reader.read().await, Some(Bytes::from_static(b"x")));
    assert_eq!(server.0.state.lock().held, 40_000);
    drop(unread.reader);
    assert_eq!(server.0.state.lock().held, 0);
    match raw.next().await {
        Some(Frame::WindowUpdate {
            stream: 1,
            delta: 40_000,
        }) => {}
        Some(Frame::WindowUpdate { stream: 0, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_this_side_has_finished_and_reads_no_more_is_reset() {
    let (mut raw, server, mut incoming, _connection) = against_raw(PATIENT).await;
    let stream = accepted(&mut raw, &mut incoming, 1).await;
    stream.writer.finish().await.expect("finished");
    assert!(matches!(
        raw.next().await,
        Some(Frame::Data {
            stream: 1,
            fin: true,
            ..
        })
    ));
    drop(stream.reader);
    let status = reset::CANCEL;
    assert_eq!(raw.next().await, Some(Frame::RstStream { stream: 1, status }));
    assert!(server.0.state.lock().open.is_empty());
}

#[tokio::test]
async fn a_peer_that_opens_streams_and_hears_of_no_reset_is_not_read() {
    // The width of a few resets.
    let (raw, server, incoming, connection) = against_narrow_raw(64, impatient()).await;
    drop(incoming);
    let Raw { io, mut encoder, .. } = raw;
    let (unread, mut writer) = tokio::io::split(io);
    let asking = tokio::spawn(async move {
        for stream in (1..=8 * MAX_STREAMS as u32).step_by(2) {
            let mut bytes = BytesMut::new();
            encoder.encode(&syn(stream), &mut bytes);
            // Those that are not read any more are thrown away when the connection ends.
            let _ = writer.write_all(&bytes).await;
        }
    });
    let ended = connection.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Idle(_))), "{ended:?}");
    drop(unread);
    asking.await.expect("no panic");
    let state = server.0.state.lock();
    assert!(state.cancelled.len() <= MAX_STREAMS, "{} wait", state.cancelled.len());
    assert!(state.last_of_peer < 8 * MAX_STREAMS as u32 - 1, "all were read");
}

#[tokio::test]
async fn a_connection_that_waits_for_a_stream_is_idle() {
    let (raw, _server, mut incoming, connection) = against_narrow_raw(4096, impatient()).await;
    let accepting = tokio::spawn(async move { incoming.next().await.expect("an offer").accept().await });
    let Raw { io, mut encoder, .. } = raw;
    let (_unread, mut writer) = tokio::io::split(io);
    let mut bytes = BytesMut::new();
    encoder.encode(&syn(1), &mut bytes);
    let much = vec![0; 2 * MOST_HELD_UNCOUNTED];
    encoder.encode(&data(1, much), &mut bytes);
    let saying = tokio::spawn(async move { writer.write_all(&bytes).await });
    let ended = connection.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Idle(_))), "{ended:?}");
    let _ = saying.await.expect("no panic");
    accepting.await.expect("no panic").expect("accepted");
}

#[tokio::test]
async fn a_peer_that_talks_and_never_listens_is_idle() {
    let (mut raw, _server, mut incoming, connection) = against_narrow_raw(4096, impatient()).await;
    let mut stream = accepted(&mut raw, &mut incoming, 1).await;
    let Raw { io, mut encoder, .. } = raw;
    let (_unread, mut writer) = tokio::io::split(io);
    let talking = tokio::spawn(async move {
        loop {
            let mut bytes = BytesMut::new();
            encoder.encode(&data(1, &b"still here"[..]), &mut bytes);
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut reader = stream.reader;
    let listening = tokio::spawn(async move { while reader.read().await.is_some() {} });
    assert_eq!(stream.writer.write(vec![0; 1 << 20].into()).await, Err(Reset));
    let ended = connection.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Idle(_))), "{ended:?}");
    talking.await.expect("refused");
    listening.await.expect("ends");
}

#[tokio::test]
async fn a_goodbye_ends_a_connection_whose_peer_never_listens() {
    let (mut raw, server, mut incoming, connection) = against_narrow_raw(4096, PATIENT).await;
    let mut stream = accepted(&mut raw, &mut incoming, 1).await;
    let writing = tokio::spawn(async move { stream.writer.write(vec![0; 2 << 20].into()).await });
    let leaving = server.clone();
    let leaving = tokio::spawn(async move { leaving.close().await });
    while server.0.state.lock().goodbye_ends.is_none() {
        tokio::task::yield_now().await;
    }
    // The time is over, and the goodbye itself still waits behind what is not read.
    server.0.state.lock().goodbye_ends = Some(Instant::now());
    server.0.leaving.notify_one();
    connection.await.expect("no panic").expect("a clean end");
    assert_eq!(writing.await.expect("no panic"), Err(Reset));
    leaving.await.expect("no panic");
}

#[tokio::test]
async fn what_was_said_before_the_end_is_written_after_the_goodbye() {
    let (mut raw, server, mut incoming, connection) = against_narrow_raw(4096, PATIENT).await;
    let mut stream = accepted(&mut raw, &mut incoming, 1).await;
    let (fin, nothing) = (true, Bytes::new());
    raw.send(&[Frame::Data {
        stream: 1,
        fin,
        bytes: nothing,
    }])
    .await;
    assert_eq!(stream.reader.read().await, None);
    let saying = tokio::spawn(async move {
        server.close().await;
        stream.writer.write(vec![1; 1 << 20].into()).await.expect("written");
        stream.writer.finish().await.expect("finished");
    });
    let (mut heard, mut finished) = (0, false);
    while let Some(frame) = raw.next().await {
        if let Frame::Data { fin, bytes, .. } = frame {
            heard += bytes.len();
            finished |= fin;
        }
    }
    assert_eq!((heard, finished), (1 << 20, true));
    saying.await.expect("said");
    drop(raw);
    connection.await.expect("no panic").expect("a clean end");
}
