//! From the least to the most. Nothing overflows: what is more than can be counted is the most that can.

/// A cost or a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    pub const ZERO: Range = Range::fixed(0);
    pub const ONE: Range = Range::fixed(1);
    pub const UNKNOWN: Range = Range { min: 0, max: u64::MAX };
    /// What nothing is in yet: joined with anything, it is that.
    pub const NONE: Range = Range { min: u64::MAX, max: 0 };

    pub const fn fixed(value: u64) -> Range {
        Range { min: value, max: value }
    }

    pub fn plus(self, other: Range) -> Range {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub fn times(self, other: Range) -> Range {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// Rounded up.
    pub fn scaled(self, factor: f64) -> Range {
        let scale = |value: u64| (value as f64 * factor).ceil() as u64;
        Range { min: scale(self.min), max: scale(self.max) }
    }

    /// Either of both.
    pub fn or(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}
