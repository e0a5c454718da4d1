//! "3" or "25%" of something.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

/// The number, or the percentage of `total`; zero where the text is neither (validation refuses it).
pub fn resolve(value: &IntOrString, total: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok()).unwrap_or(0);
            let hundredfold = percent * i64::from(total);
            let result = match round {
                Round::Up => (hundredfold + 99).div_euclid(100),
                Round::Down => hundredfold.div_euclid(100),
            };
            result.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        for (text, total, up, down) in
            [("25%", 3, 1, 0), ("25%", 4, 1, 1), ("0%", 9, 0, 0), ("100%", 7, 7, 7), ("x", 7, 0, 0)]
        {
            let value = IntOrString::String(text.into());
            assert_eq!(
                (resolve(&value, total, Round::Up), resolve(&value, total, Round::Down)),
                (up, down),
                "{text} of {total}"
            );
        }
        assert_eq!(resolve(&IntOrString::Int(5), 1, Round::Up), 5);
    }
}
