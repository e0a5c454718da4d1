//! Short names from content: FNV-1a and the alphabet that cannot spell words.

const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// As upstream's `rand.SafeEncodeString` over the number in decimal.
pub fn safe_encode(hash: u32) -> String {
    hash.to_string().bytes().map(|digit| ALPHABET[usize::from(digit) % ALPHABET.len()] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(fnv1a_32(b""), 0x811c_9dc5);
        assert_eq!(fnv1a_32(b"foobar"), 0xbf9c_f968);
        assert_eq!(safe_encode(0), "4");
        assert!(safe_encode(u32::MAX).bytes().all(|byte| ALPHABET.contains(&byte)));
    }
}
