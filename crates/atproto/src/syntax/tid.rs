//! Timestamp identifiers: revisions of repositories and most record keys.
//!
//! A TID is chosen by whoever writes it, so its time may be any time and two of them may be equal.

use std::fmt;
use std::str::FromStr;

use super::SyntaxError;

/// Length of the text.
pub const TID_BYTES: usize = 13;

const ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";
const CLOCK_ID_BITS: u32 = 10;

/// A TID: microseconds since the epoch and a clock id of 10 bits. Ordered as its text is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(u64);

impl Tid {
    /// Makes a TID, or none if the time is negative or does not fit 53 bits, or the clock id does not fit 10.
    #[must_use]
    pub fn new(micros: i64, clock_id: u16) -> Option<Self> {
        let fits = (0..1 << 53).contains(&micros) && clock_id < 1 << CLOCK_ID_BITS;
        fits.then(|| Self((micros as u64) << CLOCK_ID_BITS | u64::from(clock_id)))
    }

    /// Returns the time, in microseconds since the epoch. It is at most 2^54, and whatever the writer said.
    #[must_use]
    pub fn micros(self) -> i64 {
        (self.0 >> CLOCK_ID_BITS) as i64
    }

    /// Returns the clock id, 0 to 1023.
    #[must_use]
    pub fn clock_id(self) -> u16 {
        (self.0 & ((1 << CLOCK_ID_BITS) - 1)) as u16
    }

    /// Returns the whole number that the text spells.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }

    /// Returns the TID whose text spells `value`; every number is one.
    #[must_use]
    pub fn from_value(value: u64) -> Self {
        Self(value)
    }

    /// Returns the text as ASCII, without an allocation.
    #[must_use]
    pub fn to_text(self) -> [u8; TID_BYTES] {
        let mut rest = self.0;
        let mut text = [0; TID_BYTES];
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        text
    }
}

impl FromStr for Tid {
    type Err = SyntaxError;

    // The specification says that the top bit of the 64 is zero, but its grammar lets the first character be one of
    // sixteen. The grammar decides, as it does for other implementations.
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.len() != TID_BYTES {
            return Err(SyntaxError::Length {
                bytes: text.len(),
                max: TID_BYTES,
            });
        }
        let mut value = 0_u64;
        for (at, byte) in text.bytes().enumerate() {
            let digit = match byte {
                b'2'..=b'7' => byte - b'2',
                b'a'..=b'z' => byte - b'a' + 6,
                _ => return Err(SyntaxError::Character { at }),
            };
            if at == 0 && digit >= 16 {
                return Err(SyntaxError::Character { at });
            }
            value = value << 5 | u64::from(digit);
        }
        Ok(Self(value))
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The alphabet is ASCII, so the fallback is never taken.
        formatter.pad(std::str::from_utf8(&self.to_text()).unwrap_or_default())
    }
}

impl fmt::Debug for Tid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tid_is_its_time_and_its_clock_id() {
        let tid = Tid::new(1_686_577_391_000_123, 7).expect("in range");
        assert_eq!((tid.micros(), tid.clock_id()), (1_686_577_391_000_123, 7));
        assert_eq!(Tid::new(-1, 0), None);
        assert_eq!(Tid::new(1 << 53, 0), None);
        assert_eq!(Tid::new(0, 1024), None);
        assert_eq!(
            Tid::new(0, 0).expect("in range").to_string(),
            "2222222222222"
        );
    }

    proptest! {
        #[test]
        fn text_and_number_are_one_tid(left: u64, right: u64) {
            let (left, right) = (Tid::from_value(left), Tid::from_value(right));
            prop_assert_eq!(left.to_string().parse(), Ok(left));
            prop_assert_eq!(left.cmp(&right), left.to_string().cmp(&right.to_string()));
        }

        #[test]
        fn what_parses_prints_itself(text in "[2-7a-z]{13}") {
            if let Ok(tid) = text.parse::<Tid>() {
                prop_assert_eq!(tid.to_string(), text);
            }
        }
    }
}
