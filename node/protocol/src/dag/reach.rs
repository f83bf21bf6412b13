//! Sets of leader slots, as bitsets over a window that moves up.
//!
//! Promises: a union costs one word operation for 64 slots of the window; what lies below the window costs nothing.

/// A set of slot numbers (round times leaders plus offset).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotSet {
    /// Number of the first word.
    base: u64,
    words: Vec<u64>,
}

impl SlotSet {
    /// Adds a slot.
    pub fn insert(&mut self, slot: u64) {
        let word = slot / 64;
        if self.words.is_empty() {
            self.base = word;
        }
        if word < self.base {
            let missing = self.base.saturating_sub(word) as usize;
            self.words.splice(0..0, std::iter::repeat_n(0, missing));
            self.base = word;
        }
        let place = word.saturating_sub(self.base) as usize;
        if place >= self.words.len() {
            self.words.resize(place.saturating_add(1), 0);
        }
        self.words[place] |= 1 << (slot % 64);
    }

    /// Whether the slot is in the set.
    pub fn contains(&self, slot: u64) -> bool {
        let place = (slot / 64).checked_sub(self.base).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.words.get(place)).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    /// Adds all slots of `other` from about `floor` on; lower ones may be left out.
    pub fn union_from(&mut self, other: &Self, floor: u64) {
        for (place, word) in other.words.iter().enumerate() {
            let number = other.base.saturating_add(place as u64);
            if *word == 0 || number < floor / 64 {
                continue;
            }
            if self.words.is_empty()
                || number < self.base
                || number >= self.base.saturating_add(self.words.len() as u64)
            {
                self.insert(number.saturating_mul(64));
                if word & 1 == 0 {
                    let own = number.saturating_sub(self.base) as usize;
                    self.words[own] &= !1;
                }
            }
            let own = number.saturating_sub(self.base) as usize;
            self.words[own] |= word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_members_over_word_borders() {
        let mut set = SlotSet::default();
        for slot in [130, 5, 64, 1000] {
            set.insert(slot);
        }
        let members: Vec<u64> = (0..1100).filter(|slot| set.contains(*slot)).collect();
        assert_eq!(members, [5, 64, 130, 1000]);
    }

    #[test]
    fn a_union_leaves_out_what_is_below_the_floor() {
        let (mut one, mut two) = (SlotSet::default(), SlotSet::default());
        one.insert(200);
        for slot in [3, 129, 200, 320] {
            two.insert(slot);
        }
        one.union_from(&two, 128);
        let members: Vec<u64> = (0..400).filter(|slot| one.contains(*slot)).collect();
        assert_eq!(members, [129, 200, 320]);
        let mut empty = SlotSet::default();
        empty.union_from(&two, 0);
        assert_eq!(empty, two);
    }
}
