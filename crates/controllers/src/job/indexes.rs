//! Completion indexes as the API writes them: `0,3-5,7`.

use std::collections::BTreeSet;

pub type Indexes = BTreeSet<i32>;

pub fn parse(text: &str, completions: i32) -> Indexes {
    let mut indexes = Indexes::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else { continue };
        indexes.extend(first.max(0)..=last.min(completions - 1));
    }
    indexes
}

pub fn format(indexes: &Indexes) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut run: Option<(i32, i32)> = None;
    let mut end = |run: Option<(i32, i32)>| match run {
        Some((first, last)) if first == last => parts.push(first.to_string()),
        Some((first, last)) if first + 1 == last => parts.extend([first.to_string(), last.to_string()]),
        Some((first, last)) => parts.push(format!("{first}-{last}")),
        None => {}
    };
    for index in indexes {
        match &mut run {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => {
                end(run);
                run = Some((*index, *index));
            }
        }
    }
    end(run);
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text() {
        for text in ["", "0", "0,1", "0-2", "1,3-5,7", "2,3,5-9"] {
            assert_eq!(format(&parse(text, 100)), text);
        }
        assert_eq!(format(&parse("0-9,x,3-", 4)), "0-3");
    }

    proptest! {
        #[test]
        fn round_trip(indexes in proptest::collection::btree_set(0..200i32, 0..60)) {
            prop_assert_eq!(parse(&format(&indexes), 200), indexes);
        }
    }
}
