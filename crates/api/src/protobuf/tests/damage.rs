//! What holds of bytes that are not quite a message: of a version to come, cut short, or changed on the way.

use proptest::prelude::*;

use super::generate::Generator;
use super::{bytes, number, varint};
use crate::protobuf::{decode, encode};

/// One past every field that any message has.
const UNKNOWN: u64 = 29_999;

/// The message in an envelope, and an envelope with another message.
fn with_message(envelope: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let super::Reader(rest) = super::Reader(&envelope[4..]);
    let mut out = envelope[..4].to_vec();
    for field in super::Reader(rest) {
        match field.unwrap() {
            (2, super::Wire::Bytes(message)) => out.extend(bytes(2, change(message))),
            (tag, super::Wire::Bytes(other)) => out.extend(bytes(tag.into(), other)),
            other => panic!("an envelope has no such field: {other:?}"),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn fields_of_versions_to_come_are_left_out(seed: u64) {
        let mut generator = Generator::new(seed);
        let unknown = [
            number(UNKNOWN, u64::MAX),
            bytes(UNKNOWN, "text"),
            [varint(UNKNOWN << 3 | 1), vec![7; 8]].concat(),
            [varint(UNKNOWN << 3 | 5), vec![7; 4]].concat(),
        ];
        for gvk in Generator::kinds() {
            let object = generator.object(gvk);
            let written = encode(object.to_string().as_bytes()).unwrap();
            let newer = with_message(&written, |message| [unknown.concat(), message.to_vec(), unknown.concat()].concat());
            prop_assert_eq!(decode(&newer), Ok(object.clone()));
        }
    }

    #[test]
    fn damaged_messages_are_read_or_refused(seed: u64, damage in prop::collection::vec((any::<u64>(), any::<u8>()), 24)) {
        let mut generator = Generator::new(seed);
        for gvk in Generator::kinds() {
            let object = generator.object(gvk);
            let written = encode(object.to_string().as_bytes()).unwrap();
            for (at, byte) in &damage {
                let at = usize::try_from(at % written.len() as u64).unwrap();
                let mut changed = written.clone();
                changed[at] = *byte;
                let _ = decode(&changed);
                let _ = decode(&written[..at]);
            }
        }
    }
}
