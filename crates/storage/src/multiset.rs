//! A hash of a multiset of changes: order does not matter, every occurrence counts.
//!
//! The sum modulo 2^256 of the BLAKE3 of each change's identity, so that parts add up to the whole.

use std::fmt;

/// The sum modulo 2^256 of 32-byte hashes, little-endian.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MultisetHash(pub [u8; 32]);

impl MultisetHash {
    /// The hash of no changes.
    pub const EMPTY: Self = Self([0; 32]);

    /// Adds one change by the BLAKE3 of its identity.
    pub fn add(&mut self, identity: &[u8; 32]) {
        let mut carry = 0_u16;
        for (sum, term) in self.0.iter_mut().zip(identity) {
            let total = u16::from(*sum) + u16::from(*term) + carry;
            let [low, high] = total.to_le_bytes();
            *sum = low;
            carry = u16::from(high);
        }
    }

    /// Adds all changes of `other`.
    pub fn combine(&mut self, other: &Self) {
        self.add(&other.0);
    }
}

impl fmt::Debug for MultisetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MultisetHash(")?;
        for byte in self.0.iter().rev() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(terms in prop::collection::vec(any::<[u8; 32]>(), 0..8), cut in 0_usize..8) {
            let sum = |terms: &[[u8; 32]]| {
                let mut hash = MultisetHash::EMPTY;
                for term in terms {
                    hash.add(term);
                }
                hash
            };
            let cut = cut.min(terms.len());
            let reversed: Vec<_> = terms.iter().rev().copied().collect();
            let mut split = sum(&terms[..cut]);
            split.combine(&sum(&terms[cut..]));
            prop_assert_eq!(sum(&terms), sum(&reversed));
            prop_assert_eq!(sum(&terms), split);
        }
    }

    #[test]
    fn the_carry_runs_through_and_falls_off() {
        let mut hash = MultisetHash([0xff; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        hash.add(&one);
        assert_eq!(hash, MultisetHash::EMPTY);
        hash.add(&one);
        hash.add(&one);
        assert_ne!(hash, MultisetHash(one), "every occurrence counts");
    }
}
