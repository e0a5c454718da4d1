//! Who lends whom how many seats, decided anew every few seconds from what each level asked for.
//!
//! A level has a nominal number of seats by its shares. It lends up to a part of them where it does not need them and
//! borrows what others lend, up to a bound of its own. What there is is divided in proportion to demand.

use super::demand::Observed;

/// What a level's configuration gives it, in seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub nominal: u32,
    pub lower: u32,
    pub upper: u32,
}

/// What a level's configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub shares: u32,
    pub lendable_percent: u32,
    /// `None`: as much as there is.
    pub borrowing_percent: Option<u32>,
}

impl Terms {
    pub fn bounds(self, total: u32, all_shares: u64) -> Bounds {
        let part = |of: u64, part: u64, whole: u64| (of * part).div_ceil(whole.max(1));
        let nominal = part(u64::from(total), u64::from(self.shares), all_shares);
        let percent = |percent: u32| (nominal * u64::from(percent) + 50) / 100;
        let upper = match self.borrowing_percent {
            Some(share) => nominal + percent(share),
            None => nominal.max(u64::from(total)),
        };
        let lower = nominal - percent(self.lendable_percent).min(nominal);
        let seats = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Bounds { nominal: seats(nominal), lower: seats(lower), upper: seats(upper) }
    }
}

/// A level as it goes into the decision.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub bounds: Bounds,
    pub exempt: bool,
    pub observed: Observed,
    /// See [`super::demand::smoothed`].
    pub wanted: f64,
}

impl Claim {
    /// What it has used is not taken away, as far as it is its own; nor what it does not lend.
    fn least(&self) -> f64 {
        let used = self.observed.highest;
        let own = if self.exempt { used } else { used.min(f64::from(self.bounds.nominal)) };
        own.max(f64::from(self.bounds.lower))
    }
}

/// The seats that each claim gets until the next decision. What is exempt takes what it took; the others share what
/// that leaves of the sum of all nominal numbers.
pub fn divide(claims: &[Claim]) -> Vec<u32> {
    let total: f64 = claims.iter().map(|claim| f64::from(claim.bounds.nominal)).sum();
    let exempt: f64 = claims.iter().filter(|claim| claim.exempt).map(Claim::least).sum();
    let limited = || claims.iter().filter(|claim| !claim.exempt);
    let left = total - exempt;
    let guaranteed: f64 = limited().map(|claim| f64::from(claim.bounds.lower)).sum();
    let least: f64 = limited().map(Claim::least).sum();
    let fair = if left > least { proportion(limited(), left) } else { 0.0 };
    let seats = |claim: &Claim| {
        let lower = f64::from(claim.bounds.lower);
        match () {
            () if claim.exempt => claim.least(),
            () if left <= guaranteed => lower,
            () if left <= least => lower + (claim.least() - lower) * (left - guaranteed) / (least - guaranteed),
            () => given(claim, fair),
        }
    };
    // Not negative, and no more than the upper bounds, which are numbers of 32 bits.
    claims.iter().map(|claim| seats(claim).round() as u32).collect()
}

/// What a claim gets where everybody gets `fair` of what they want, within bounds.
fn given(claim: &Claim, fair: f64) -> f64 {
    let target = claim.wanted.max(claim.least()).max(0.001);
    // The least may lie above the upper bound for no claim: what is its own is never more than nominal.
    (target * fair).clamp(claim.least(), f64::from(claim.bounds.upper).max(claim.least()))
}

/// The proportion of all wants with which what is given comes to `sum`. What is given never falls as it rises, so
/// halving finds it; where the upper bounds do not come to `sum`, everybody is at theirs.
fn proportion<'a>(claims: impl Iterator<Item = &'a Claim> + Clone, sum: f64) -> f64 {
    let all = |fair: f64| claims.clone().map(|claim| given(claim, fair)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while all(high) < sum && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if all(middle) < sum { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(shares: u32, lendable_percent: u32, borrowing_percent: Option<u32>) -> Terms {
        Terms { shares, lendable_percent, borrowing_percent }
    }

    #[test]
    fn shares_become_seats() {
        let rows = [
            (terms(30, 33, None), 600, 245, Bounds { nominal: 74, lower: 50, upper: 600 }),
            (terms(5, 0, Some(0)), 600, 245, Bounds { nominal: 13, lower: 13, upper: 13 }),
            (terms(100, 90, Some(50)), 600, 245, Bounds { nominal: 245, lower: 24, upper: 368 }),
            (terms(0, 0, None), 600, 245, Bounds { nominal: 0, lower: 0, upper: 600 }),
            (terms(7, 100, None), 600, 7, Bounds { nominal: 600, lower: 0, upper: 600 }),
            (terms(0, 0, None), 600, 0, Bounds { nominal: 0, lower: 0, upper: 600 }),
        ];
        for (terms, total, all, expected) in rows {
            assert_eq!(terms.bounds(total, all), expected, "{terms:?}");
        }
    }

    fn claim(bounds: (u32, u32, u32), highest: f64, wanted: f64) -> Claim {
        let (nominal, lower, upper) = bounds;
        let observed = Observed { average: highest, deviation: 0.0, highest };
        Claim { bounds: Bounds { nominal, lower, upper }, exempt: false, observed, wanted }
    }

    fn exempt(highest: f64) -> Claim {
        Claim { exempt: true, ..claim((0, 0, 0), highest, highest) }
    }

    #[test]
    fn seats_go_to_where_they_are_wanted() {
        let idle = claim((100, 20, 300), 0.0, 0.0);
        let busy = claim((100, 20, 300), 500.0, 500.0);
        let kept = claim((100, 100, 300), 0.0, 0.0);
        let bound = claim((100, 20, 120), 500.0, 500.0);
        let rows: Vec<(Vec<Claim>, Vec<u32>)> = vec![
            // Nobody wants anything: what is nobody's is shared alike.
            (vec![idle, idle], vec![100, 100]),
            (vec![idle, busy], vec![20, 180]),
            (vec![busy, busy], vec![100, 100]),
            (vec![idle, idle, busy], vec![20, 20, 260]),
            (vec![kept, busy], vec![100, 100]),
            (vec![idle, bound], vec![80, 120]),
            // Who has half of its own under way keeps that, and lends the rest.
            (vec![claim((100, 20, 300), 50.0, 30.0), busy], vec![50, 150]),
            // What is exempt is not limited, and the others have less for it.
            (vec![exempt(30.0), idle, busy], vec![30, 20, 150]),
            (vec![exempt(90.0), busy, busy], vec![90, 55, 55]),
            (vec![exempt(900.0), busy, busy], vec![900, 20, 20]),
            (vec![], vec![]),
        ];
        for (claims, expected) in rows {
            assert_eq!(divide(&claims), expected, "{claims:#?}");
        }
    }

    #[test]
    fn what_was_borrowed_comes_back() {
        let borrowing = divide(&[claim((100, 0, 300), 0.0, 0.0), claim((100, 0, 300), 400.0, 400.0)]);
        assert!(borrowing[1] >= 199, "{borrowing:?}");
        let returned = divide(&[claim((100, 0, 300), 250.0, 250.0), claim((100, 0, 300), 400.0, 400.0)]);
        assert_eq!(returned, [100, 100]);
    }
}
