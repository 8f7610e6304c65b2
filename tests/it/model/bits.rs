//! A set of at most eight small numbers in one byte: changes, segments, log numbers.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// A set of numbers below eight.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bits(u8);

impl Bits {
    /// The set without members.
    pub(super) const EMPTY: Bits = Bits(0);

    /// The set whose only member is `index`.
    pub(super) const fn one(index: usize) -> Bits {
        Bits(1 << index)
    }

    /// The set of all numbers below `end`.
    pub(super) fn below(end: usize) -> Bits {
        (0..end).map(Bits::one).collect()
    }

    /// The set as one byte, a bit per member.
    pub(super) fn byte(self) -> u8 {
        self.0
    }

    pub(super) fn has(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn is_within(self, other: Bits) -> bool {
        (self - other).is_empty()
    }

    pub(super) fn meets(self, other: Bits) -> bool {
        !(self & other).is_empty()
    }

    /// The members in ascending order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let index = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                index
            })
        })
    }

    /// Every subset but the empty one.
    pub(super) fn nonempty_subsets(self) -> impl Iterator<Item = Bits> {
        (1..=self.0)
            .map(Bits)
            .filter(move |subset| subset.is_within(self))
    }
}

impl FromIterator<Bits> for Bits {
    fn from_iter<I: IntoIterator<Item = Bits>>(sets: I) -> Bits {
        sets.into_iter().fold(Bits::EMPTY, |all, set| all | set)
    }
}

impl BitOr for Bits {
    type Output = Bits;
    fn bitor(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }
}

impl BitOrAssign for Bits {
    fn bitor_assign(&mut self, other: Bits) {
        self.0 |= other.0;
    }
}

impl BitAnd for Bits {
    type Output = Bits;
    fn bitand(self, other: Bits) -> Bits {
        Bits(self.0 & other.0)
    }
}

impl Sub for Bits {
    type Output = Bits;
    fn sub(self, other: Bits) -> Bits {
        Bits(self.0 & !other.0)
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
