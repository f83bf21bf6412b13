//! Faults that were ordered and have not happened yet.

use std::time::Duration;

/// Armed faults; by default there are none.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// How many more operations that change something pass before the power goes.
    cut_after: Option<u64>,
    /// Which of the next syncs fails, counted from 1.
    failing_sync: Option<u64>,
    /// Added to every write.
    pub write_delay: Duration,
    /// Added to every sync.
    pub sync_delay: Duration,
    /// Added to every sync of a file whose name ends like this.
    pub slow_files: Option<(&'static str, Duration)>,
}

impl Faults {
    /// Cuts the power after so many more operations that change something.
    pub fn cut_after(&mut self, operations: u64) {
        self.cut_after = Some(operations);
    }

    /// Lets the n-th sync from now on fail, the first being 1.
    pub fn fail_sync(&mut self, number: u64) {
        self.failing_sync = Some(number.max(1));
    }

    /// An operation that changes something; whether the power goes with it.
    pub fn operation(&mut self) -> bool {
        match &mut self.cut_after {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// A sync; whether it fails.
    pub fn sync(&mut self) -> bool {
        let Some(number) = &mut self.failing_sync else { return false };
        *number -= 1;
        let fails = *number == 0;
        if fails {
            self.failing_sync = None;
        }
        fails
    }

    /// The power is back: orders that were not carried out are void.
    pub fn power_on(&mut self) {
        self.cut_after = None;
        self.failing_sync = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_comes_at_its_turn_and_a_failing_sync_once() {
        let mut faults = Faults::default();
        assert!(!faults.operation() && !faults.sync());
        faults.cut_after(2);
        assert_eq!([(); 4].map(|()| faults.operation()), [false, false, true, true]);
        faults.power_on();
        assert!(!faults.operation());
        faults.fail_sync(2);
        assert_eq!([(); 3].map(|()| faults.sync()), [false, true, false]);
    }
}
