//! Shuffle sharding: each flow is dealt a small hand of queues by its hash. Two flows have all their queues in common
//! but rarely, so that one that floods its hand leaves nearly everybody else a queue without it.

/// More than validation lets a hand have: 60 bits of a hash are never enough for 16 queues.
const MAX_HAND: usize = 16;

/// Queues, in ascending order, without repetition.
pub struct Hand {
    cards: [u32; MAX_HAND],
    size: usize,
}

impl Hand {
    /// Deals `size` of `deck` queues. The same entropy is dealt the same hand.
    pub fn deal(mut entropy: u64, deck: u32, size: usize) -> Self {
        let mut hand = Self { cards: [0; MAX_HAND], size: 0 };
        for dealt in 0..size.min(MAX_HAND).min(deck as usize) {
            let left = u64::from(deck) - dealt as u64;
            // Below `left`, which is no more than a deck of 32 bits.
            let mut card = (entropy % left) as u32;
            entropy /= left;
            // The number of the card among those that are still in the deck becomes its number in the whole deck.
            let mut place = 0;
            while place < hand.size && hand.cards[place] <= card {
                card += 1;
                place += 1;
            }
            hand.cards.copy_within(place..hand.size, place + 1);
            hand.cards[place] = card;
            hand.size += 1;
        }
        hand
    }

    pub fn cards(&self) -> &[u32] {
        &self.cards[..self.size]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hand_has_no_card_twice() {
        for (deck, size) in [(1, 1), (8, 8), (15, 15), (64, 6), (128, 6), (10_000_000, 2), (3, 9)] {
            for seed in 0..500_u64 {
                let hand = Hand::deal(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), deck, size);
                let set: BTreeSet<u32> = hand.cards().iter().copied().collect();
                assert_eq!(set.len(), size.min(deck as usize), "{deck} {size} {seed}");
                assert!(set.iter().all(|card| *card < deck) && hand.cards().is_sorted());
            }
        }
    }

    #[test]
    fn every_hand_is_dealt_as_often_as_any_other() {
        let mut seen = std::collections::BTreeMap::new();
        for entropy in 0..5 * 4 * 3 {
            *seen.entry(Hand::deal(entropy, 5, 3).cards().to_vec()).or_insert(0) += 1;
        }
        assert_eq!((seen.len(), seen.values().max(), seen.values().min()), (10, Some(&6), Some(&6)));
    }
}
