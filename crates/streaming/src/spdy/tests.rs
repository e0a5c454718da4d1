use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tokio::{io::AsyncWriteExt, sync::mpsc};

use super::{
    dictionary,
    frame::{Frame, decode, encode},
    headers::{Deflater, Inflater},
    serve,
};

#[test]
fn the_dictionary_is_the_protocols() {
    let bytes = dictionary::bytes();
    assert_eq!(bytes.len(), 1423);
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!(b << 16 | a, dictionary::ADLER);
}

/// A compressed block as every other implementation begins one: zlib's head says that a dictionary is needed.
#[test]
fn a_first_block_names_the_dictionary() {
    let block = Deflater::new().unwrap().pack(&vec![("host".to_owned(), "a".to_owned())]).unwrap();
    assert_eq!(block[0] & 0x0f, 8);
    assert_ne!(block[1] & 0x20, 0);
    assert_eq!(block[2..6], dictionary::ADLER.to_be_bytes());
}

/// A peer that ends the stream that all blocks share has said its last: the next block must not be waited for.
#[test]
fn a_block_behind_the_end_of_the_stream_is_refused() {
    let mut zlib = flate2::Compress::new(flate2::Compression::fast(), true);
    let mut ended = Vec::with_capacity(64);
    zlib.compress_vec(&[0; 4], &mut ended, flate2::FlushCompress::Finish).unwrap();
    let mut inflater = Inflater::new();
    assert_eq!(inflater.unpack(&ended).unwrap(), []);
    assert!(inflater.unpack(&ended).is_err());
    assert!(Inflater::new().unpack(&[&ended[..], b"more"].concat()).is_err());
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("[a-z-]{0,20}", ".{0,200}"), 0..8)
}

fn frames() -> impl Strategy<Value = Frame> {
    let stream = 0_u32..0x7fff_ffff;
    prop_oneof![
        (stream.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynStream {
            stream,
            headers,
            fin
        }),
        (stream.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynReply {
            stream,
            headers,
            fin
        }),
        (stream.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::Headers {
            stream,
            headers,
            fin
        }),
        (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
        any::<u32>().prop_map(|id| Frame::Ping { id }),
        stream.clone().prop_map(|last_stream| Frame::GoAway { last_stream }),
        (stream, prop::collection::vec(any::<u8>(), 0..2000), any::<bool>())
            .prop_map(|(stream, bytes, fin)| Frame::Data { stream, bytes: Bytes::from(bytes), fin }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(frames in prop::collection::vec(frames(), 0..12), cut in 1_usize..50) {
        let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::new());
        let mut wire = BytesMut::new();
        for frame in &frames {
            encode(frame, &mut deflater, &mut wire).unwrap();
        }
        // In arbitrary pieces, as a network delivers them.
        let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(cut) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = decode(&mut buffer, &mut inflater).unwrap() {
                read.push(frame);
            }
        }
        prop_assert_eq!(read, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut inflater = Inflater::new();
        while let Ok(Some(_)) = decode(&mut buffer, &mut inflater) {}
    }
}

#[tokio::test]
async fn streams_carry_bytes_both_ways() {
    let (client, server) = tokio::io::duplex(1024);
    let (streams, mut incoming) = mpsc::channel(4);
    let serving = tokio::spawn(serve(server, streams));
    let (mut reader, mut writer) = tokio::io::split(client);
    let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::new());
    let mut wire = BytesMut::new();
    let headers = vec![("streamtype".to_owned(), "data".to_owned()), ("port".to_owned(), "80".to_owned())];
    for frame in [
        Frame::SynStream { stream: 1, headers, fin: false },
        Frame::Data { stream: 1, bytes: Bytes::from_static(b"ping"), fin: true },
        Frame::Ping { id: 7 },
    ] {
        encode(&frame, &mut deflater, &mut wire).unwrap();
    }
    writer.write_all(&wire).await.unwrap();
    let mut stream = incoming.recv().await.unwrap();
    assert_eq!(stream.header("Port"), Some("80"));
    assert_eq!(stream.data.recv().await.as_deref(), Some(&b"ping"[..]));
    assert_eq!(stream.data.recv().await, None);
    // Longer than both the pipe and a frame, so that it is cut and waited for.
    let long = Bytes::from(vec![b'x'; 100_000]);
    let sender = stream.sender.clone();
    drop(stream);
    let sending = tokio::spawn(async move {
        assert!(sender.send(long).await);
        sender.finish().await;
    });
    let (mut buffer, mut got, mut pinged, mut replied) = (BytesMut::new(), 0, false, false);
    'reading: loop {
        use tokio::io::AsyncReadExt;
        assert_ne!(reader.read_buf(&mut buffer).await.unwrap(), 0);
        while let Some(frame) = decode(&mut buffer, &mut inflater).unwrap() {
            match frame {
                Frame::SynReply { stream: 1, .. } => replied = true,
                Frame::Ping { id: 7 } => pinged = true,
                Frame::Data { stream: 1, bytes, fin } => {
                    got += bytes.len();
                    if fin {
                        break 'reading;
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    sending.await.unwrap();
    assert_eq!((got, pinged, replied), (100_000, true, true));
    drop((reader, writer, incoming));
    serving.await.unwrap().ok();
}
