//! Shuffle sharding: each flow has a hand of queues, dealt from the deck of all by its hash. Two flows seldom have the
//! whole hand in common, so one that fills its queues leaves others room in theirs.

/// Cards in a hand, at most: more than a hash of 64 bits can tell apart.
const MAX_HAND: usize = 16;

/// Deals `size` different cards of `0..deck`, always the same for a hash.
pub(super) fn hand(mut hash: u64, deck: usize, size: usize) -> impl Iterator<Item = usize> {
    let size = size.min(deck).min(MAX_HAND);
    let mut dealt = [0; MAX_HAND];
    for count in 0..size {
        let left = (deck - count) as u64;
        // The so-manieth card of those that are left.
        let mut card = (hash % left) as usize;
        hash /= left;
        // `dealt` is in order.
        let mut at = 0;
        while at < count && dealt[at] <= card {
            card += 1;
            at += 1;
        }
        dealt.copy_within(at..count, at + 1);
        dealt[at] = card;
    }
    dealt.into_iter().take(size)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_hand_has_different_cards_and_is_always_the_same() {
        for hash in (0..1000).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let cards: Vec<usize> = hand(hash, 64, 6).collect();
            assert_eq!(cards.iter().collect::<HashSet<_>>().len(), 6, "{cards:?}");
            assert!(cards.iter().all(|card| *card < 64));
            assert_eq!(cards, hand(hash, 64, 6).collect::<Vec<_>>());
        }
        assert_eq!(hand(7, 3, 9).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn every_card_is_dealt_about_as_often() {
        let mut counts = [0; 16];
        for n in 0..16_000_u64 {
            let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ n;
            hand(hash, 16, 4).for_each(|card| counts[card] += 1);
        }
        assert!(counts.iter().all(|count| (3000..5000).contains(count)), "{counts:?}");
    }
}
