//! Frames through the wire and back, however the bytes are cut, and bytes that are no frames.

use bytes::{Bytes, BytesMut};
use catamaran_spdy::Headers;
use catamaran_spdy::frame::{Decoder, Encoder, Error, Frame, LONGEST_CONTROL, LONGEST_DATA};
use catamaran_spdy::headers::{LONGEST_BLOCK, MAX_NAMES};
use proptest::collection::vec;
use proptest::prelude::*;

fn headers() -> impl Strategy<Value = Headers> {
    vec(("[a-z-]{1,12}", "[ -~é]{0,40}"), 0..6).prop_map(|mut pairs| {
        pairs.sort();
        Headers::new(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    })
}

fn stream() -> impl Strategy<Value = u32> {
    1..(1_u32 << 31)
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (stream(), 0..1_u32 << 31, 0..8_u8, any::<(bool, bool)>(), headers()).prop_map(
            |(stream, associated, priority, (fin, unidirectional), headers)| Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            }
        ),
        (stream(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynReply {
            stream,
            fin,
            headers
        }),
        (stream(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::Headers { stream, fin, headers }),
        (stream(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
        vec((0..1_u32 << 24, any::<u32>()), 0..5).prop_map(|values| Frame::Settings { values }),
        any::<u32>().prop_map(|id| Frame::Ping { id }),
        (0..1_u32 << 31, any::<u32>()).prop_map(|(last_good_stream, status)| Frame::GoAway {
            last_good_stream,
            status
        }),
        (0..1_u32 << 31, 0..1_u32 << 31).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        (stream(), any::<bool>(), vec(any::<u8>(), 0..3 * LONGEST_DATA)).prop_map(|(stream, fin, bytes)| Frame::Data {
            stream,
            fin,
            bytes: bytes.into()
        }),
    ]
}

/// Pieces of data put together again.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut all: Vec<Frame> = Vec::new();
    for frame in frames {
        match (all.last_mut(), frame) {
            (
                Some(Frame::Data {
                    stream,
                    fin: before,
                    bytes,
                }),
                Frame::Data {
                    stream: again,
                    fin,
                    bytes: more,
                },
            ) if *stream == again && !*before => {
                *bytes = [&bytes[..], &more].concat().into();
                *before = fin;
            }
            (_, frame) => all.push(frame),
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_come_out_as_they_went_in(frames in vec(frame(), 0..12), cuts in vec(1..40_000_usize, 1..20)) {
        let (mut encoder, mut wire) = (Encoder::default(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut wire);
        }
        let (mut decoder, mut buffer, mut read) = (Decoder::default(), BytesMut::new(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !wire.is_empty() {
            let cut = cuts.next().copied().unwrap_or(1).min(wire.len());
            buffer.extend_from_slice(&wire.split_to(cut));
            while let Some(frame) = decoder.decode(&mut buffer).expect("a frame") {
                if let Frame::Data { bytes, .. } = &frame {
                    prop_assert!(bytes.len() <= LONGEST_DATA);
                }
                read.push(frame);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(joined(read), joined(frames));
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(bytes in vec(any::<u8>(), 0..4096), control in any::<bool>()) {
        let mut buffer = BytesMut::from(&bytes[..]);
        if control && buffer.len() > 3 {
            // What random bytes hardly ever are.
            buffer[..3].copy_from_slice(&[0x80, 3, 0]);
            buffer[3] %= 11;
        }
        let mut decoder = Decoder::default();
        while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |index: usize| u8::from_str_radix(&hex[index..index + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn syn_stream(block: &[u8]) -> BytesMut {
    let mut wire = BytesMut::from(&bytes("8003000100")[..]);
    wire.extend_from_slice(&u32::try_from(block.len() + 10).expect("short").to_be_bytes()[1..]);
    wire.extend_from_slice(&bytes("00000001000000000000"));
    wire.extend_from_slice(block);
    wire
}

#[test]
fn what_zlib_makes_with_the_dictionary_is_understood() {
    // zlib at level 9, flushed after either block, as Go's clients write what opens a port.
    let first =
        bytes("78f9e3c6a7c202253a48f95b044eea16061606409ab308125f99a074cc68004e892545a989b9d0c2863515141500000000ffff");
    let second = bytes("225333a8a44a04000000ffff");
    let mut decoder = Decoder::default();
    for (block, kind) in [(first, "error"), (second, "data")] {
        let mut wire = syn_stream(&block);
        let frame = decoder.decode(&mut wire).expect("a frame").expect("complete");
        let Frame::SynStream { headers, .. } = frame else {
            panic!("{frame:?}")
        };
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("port", "8080"), ("requestid", "0"), ("streamtype", kind)]);
        assert_eq!(headers.get("streamType"), Some(kind));
    }
}

#[test]
fn what_is_written_is_zlib_that_any_reader_takes() {
    let mut encoder = Encoder::default();
    let mut inflate = flate2::Decompress::new(true);
    for _ in 0..2 {
        let mut wire = BytesMut::new();
        let headers = Headers::new([("a", "1"), ("b", "2"), ("a", "3")]);
        let (stream, fin) = (1, false);
        encoder.encode(&Frame::SynReply { stream, fin, headers }, &mut wire);
        let mut block = Vec::with_capacity(100);
        let flush = flate2::FlushDecompress::Sync;
        inflate.decompress_vec(&wire[12..], &mut block, flush).expect("zlib");
        assert_eq!(block, b"\0\0\0\x02\0\0\0\x01a\0\0\0\x031\x003\0\0\0\x01b\0\0\0\x012");
    }
}

#[test]
fn what_would_take_too_much_is_refused() {
    let long = LONGEST_CONTROL + 1;
    let mut wire = BytesMut::from(&bytes("8003000400010001")[..]);
    assert_eq!(Decoder::default().decode(&mut wire), Err(Error::TooLong(long)));

    // A kilobyte that says a megabyte of spaces.
    let result = Decoder::default().decode(&mut syn_stream(&packed(&vec![b' '; 1 << 20])));
    assert_eq!(result, Err(Error::Headers(catamaran_spdy::headers::Error::TooLong)));
}

/// A block of headers as zlib packs it best.
fn packed(block: &[u8]) -> Vec<u8> {
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), true);
    let mut packed = Vec::with_capacity(8192);
    deflate
        .compress_vec(block, &mut packed, flate2::FlushCompress::Sync)
        .expect("compressed");
    packed
}

/// Headers as they stand in a block.
fn block(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).expect("short").to_be_bytes();
    let mut block = word(pairs.len()).to_vec();
    for text in pairs.iter().flat_map(|(name, values)| [name, values]) {
        block.extend_from_slice(&word(text.len()));
        block.extend_from_slice(text);
    }
    block
}

#[test]
fn a_name_is_kept_once_however_many_values_it_has() {
    let half = LONGEST_BLOCK / 2 - 8;
    let block = block(&[(vec![b'n'; half], vec![0; half])]);
    let packed = packed(&block);
    assert!(packed.len() < 200, "a small frame it is: {} bytes", packed.len());
    let frame = Decoder::default().decode(&mut syn_stream(&packed));
    let Ok(Some(Frame::SynStream { headers, .. })) = frame else {
        panic!("{frame:?}")
    };
    assert_eq!(headers.iter().count(), half + 1);
    // All values of the name lie in one piece of memory, and so does the name.
    let names: std::collections::HashSet<_> = headers.iter().map(|(name, _)| name.as_ptr()).collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn there_is_an_end_to_how_many_headers_a_block_has() {
    let numbered = |count: usize| -> Vec<_> { (0..count).map(|n| (n.to_string().into(), Vec::new())).collect() };
    let read = |count| Decoder::default().decode(&mut syn_stream(&packed(&block(&numbered(count)))));
    assert!(matches!(read(MAX_NAMES), Ok(Some(_))));
    let result = read(MAX_NAMES + 1);
    assert_eq!(result, Err(Error::Headers(catamaran_spdy::headers::Error::TooMany)));
}

#[test]
fn the_longest_headers_that_are_read_can_be_written_and_read_again() {
    let value = LONGEST_BLOCK - 4 - 8 - 1;
    let block = block(&[(vec![b'n'], vec![b'v'; value])]);
    assert_eq!(block.len(), LONGEST_BLOCK);
    let frame = Decoder::default().decode(&mut syn_stream(&packed(&block)));
    let frame = frame.expect("a frame").expect("all of it");
    let mut wire = BytesMut::new();
    Encoder::default().encode(&frame, &mut wire);
    assert_eq!(Decoder::default().decode(&mut wire), Ok(Some(frame)));
}

#[test]
fn unknown_frames_are_passed_over_without_being_kept() {
    let mut decoder = Decoder::default();
    let mut wire = BytesMut::from(&bytes("8003000a00ffffff")[..]);
    let mut left = 0xff_ffff;
    while left > 0 {
        let now = left.min(50_000);
        wire.extend_from_slice(&vec![0; now]);
        left -= now;
        assert_eq!(decoder.decode(&mut wire), Ok(None));
        assert!(wire.is_empty());
    }
    wire.extend_from_slice(&bytes("8003000600000004000000010000000100000000"));
    assert_eq!(decoder.decode(&mut wire), Ok(Some(Frame::Ping { id: 1 })));
    let (stream, fin) = (1, false);
    let nothing = Frame::Data {
        stream,
        fin,
        bytes: Bytes::new(),
    };
    assert_eq!(decoder.decode(&mut wire), Ok(Some(nothing)));
}
