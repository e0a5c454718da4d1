/// Processor time that only grows, turned into how fast it grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuRate {
    /// When the processor time was read, and what it was, both in nanoseconds.
    last: Option<(i64, u64)>,
    nano_cores: Option<u64>,
}

/// Two readings closer together than this say little: the earlier one is kept.
const WINDOW_NS: i64 = 5_000_000_000;

impl CpuRate {
    /// Takes a reading and tells the rate of the last two that lie far enough apart, in billionths of a processor.
    pub fn note(&mut self, now_ns: i64, total_ns: u64) -> Option<u64> {
        if self.last.is_none_or(|(then, _)| now_ns - then >= WINDOW_NS) {
            // A counter that went back belongs to something that was started again.
            let grown = self.last.and_then(|(then, before)| Some((now_ns - then, total_ns.checked_sub(before)?)));
            let rate = grown.map(|(ns, used)| u128::from(used) * 1_000_000_000 / u128::from(ns.unsigned_abs().max(1)));
            self.nano_cores = rate.and_then(|rate| u64::try_from(rate).ok());
            self.last = Some((now_ns, total_ns));
        }
        self.nano_cores
    }
}

#[cfg(test)]
mod tests {
    use super::CpuRate;

    #[test]
    fn a_rate_is_of_two_readings_that_lie_apart() {
        let mut rate = CpuRate::default();
        let second = 1_000_000_000;
        for (at, total, expected) in [
            (0, 0, None),
            (second, 400_000_000, None),
            (10 * second, 5_000_000_000, Some(500_000_000)),
            (12 * second, 9_000_000_000, Some(500_000_000)),
            (20 * second, 5_000_000_000, Some(0)),
            (30 * second, 1_000_000_000, None),
            (40 * second, 11_000_000_000, Some(1_000_000_000)),
        ] {
            assert_eq!(rate.note(at, total), expected, "at {at}");
        }
    }
}
