//! Which images nobody needs: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

/// When to begin and what to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGc {
    /// Above this share of the disk in use, images go...
    pub high_percent: u8,
    /// ...until it is below this one.
    pub low_percent: u8,
    /// Younger ones stay: what was just pulled is about to be used.
    pub min_age: Duration,
    /// What was not used for so long goes, whatever room there is; nothing for no such limit.
    pub max_age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageGcError {
    #[error("{option} must be between 0 and 100, inclusive: {percent}")]
    Percent { option: &'static str, percent: u8 },
    #[error("--image-gc-low-threshold ({low}) must be less than --image-gc-high-threshold ({high})")]
    Order { low: u8, high: u8 },
    #[error("--image-maximum-gc-age must be greater than --minimum-image-ttl-duration")]
    Age,
}

impl ImageGc {
    pub fn check(&self) -> Result<(), ImageGcError> {
        let Self { high_percent, low_percent, min_age, max_age } = *self;
        for (option, percent) in
            [("--image-gc-high-threshold", high_percent), ("--image-gc-low-threshold", low_percent)]
        {
            if percent > 100 {
                return Err(ImageGcError::Percent { option, percent });
            }
        }
        if low_percent >= high_percent {
            return Err(ImageGcError::Order { low: low_percent, high: high_percent });
        }
        if !max_age.is_zero() && max_age <= min_age { Err(ImageGcError::Age) } else { Ok(()) }
    }

    /// How many bytes have to go where so much of the disk is free. A high threshold of 100 never is passed.
    pub fn excess(&self, available: u64, capacity: u64) -> u64 {
        let (available, capacity) = (u128::from(available.min(capacity)), u128::from(capacity.max(1)));
        let used_percent = 100 - available * 100 / capacity;
        if self.high_percent >= 100 || used_percent < u128::from(self.high_percent) {
            return 0;
        }
        let wanted = capacity * u128::from(100 - self.low_percent) / 100;
        u64::try_from(wanted.saturating_sub(available)).unwrap_or(u64::MAX)
    }
}

/// What the runtime says of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    pub size_bytes: u64,
    pub pinned: bool,
    /// What a container is made from, or a volume shows.
    pub in_use: bool,
    /// Where the runtime keeps it.
    pub last_used: Option<Timestamp>,
}

/// When each image was first seen, and last in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records(BTreeMap<String, Record>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    /// Nothing for those that were there before.
    first_seen: Option<Timestamp>,
    last_used: Timestamp,
}

impl Records {
    /// Takes a look in; the first one cannot know how old anything is.
    pub fn look(&mut self, images: &[Image], now: Timestamp, first: bool) {
        let ids: BTreeSet<&str> = images.iter().map(|image| image.id.as_str()).collect();
        self.0.retain(|id, _| ids.contains(id.as_str()));
        for image in images {
            let new = Record { first_seen: (!first).then_some(now), last_used: now };
            let known = self.0.contains_key(&image.id);
            let record = self.0.entry(image.id.clone()).or_insert(new);
            match image.last_used {
                _ if image.in_use => record.last_used = now,
                Some(told) if !known || told > record.last_used => record.last_used = told,
                _ => {}
            }
        }
    }

    /// The images that may go, the one that was used longest ago first.
    fn idle<'a>(&self, images: &'a [Image]) -> Vec<(&'a Image, Record)> {
        let idle = images.iter().filter(|image| !image.in_use && !image.pinned);
        let mut idle: Vec<_> = idle.filter_map(|image| Some((image, *self.0.get(&image.id)?))).collect();
        idle.sort_by_key(|(_, record)| (record.last_used, record.first_seen));
        idle
    }

    /// The images to remove: those that are too old, and then as many as give `excess` bytes.
    pub fn plan(&self, images: &[Image], settings: &ImageGc, excess: u64, now: Timestamp) -> Vec<Image> {
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let mut left = excess;
        let mut chosen = Vec::new();
        for (image, record) in self.idle(images) {
            let outlived = !settings.max_age.is_zero() && age(record.last_used) > settings.max_age;
            let ripe = record.first_seen.is_none_or(|since| age(since) >= settings.min_age);
            if outlived || left > 0 && ripe {
                left = left.saturating_sub(image.size_bytes);
                chosen.push(image.clone());
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: ImageGc =
        ImageGc { high_percent: 85, low_percent: 80, min_age: Duration::from_secs(120), max_age: Duration::ZERO };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn image(id: &str, size_bytes: u64) -> Image {
        Image { id: id.into(), size_bytes, ..Image::default() }
    }

    #[test]
    fn a_disk_is_emptied_to_the_low_threshold_once_it_passed_the_high_one() {
        for (available, capacity, expected) in
            [(1000, 1000, 0), (160, 1000, 0), (150, 1000, 50), (0, 1000, 200), (2000, 1000, 0), (0, 0, 0)]
        {
            assert_eq!(SETTINGS.excess(available, capacity), expected, "{available} of {capacity}");
        }
        assert_eq!(ImageGc { high_percent: 100, ..SETTINGS }.excess(0, 1000), 0);
    }

    #[test]
    fn settings_are_checked() {
        SETTINGS.check().unwrap();
        for (wrong, expected) in [
            (
                ImageGc { high_percent: 101, ..SETTINGS },
                "--image-gc-high-threshold must be between 0 and 100, inclusive: 101",
            ),
            (
                ImageGc { low_percent: 85, ..SETTINGS },
                "--image-gc-low-threshold (85) must be less than --image-gc-high-threshold (85)",
            ),
            (
                ImageGc { max_age: Duration::from_secs(1), ..SETTINGS },
                "--image-maximum-gc-age must be greater than --minimum-image-ttl-duration",
            ),
        ] {
            assert_eq!(wrong.check().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_image_used_longest_ago_goes_first_and_none_that_is_needed() {
        let mut records = Records::default();
        let used = |id: &str, second: i64| Image { last_used: Some(at(second)), ..image(id, 10) };
        let pinned = Image { pinned: true, ..image("pinned", 10) };
        let busy = Image { in_use: true, ..image("busy", 10) };
        let mut images = vec![used("late", 900), used("early", 500), pinned, busy];
        records.look(&images, at(1000), true);
        images.push(image("new", 10));
        records.look(&images, at(1100), false);
        let plan = |excess, settings: &ImageGc, now| {
            let chosen = records.plan(&images, settings, excess, at(now));
            chosen.into_iter().map(|image| image.id).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(plan(0, &SETTINGS, 1200), "");
        assert_eq!(plan(1, &SETTINGS, 1200), "early");
        assert_eq!(plan(11, &SETTINGS, 1200), "early late");
        assert_eq!(plan(99, &SETTINGS, 1219), "early late", "what was just pulled stays");
        assert_eq!(plan(99, &SETTINGS, 1220), "early late new");
        let aging = ImageGc { max_age: Duration::from_secs(600), ..SETTINGS };
        assert_eq!(plan(0, &aging, 1200), "early");
        assert_eq!(plan(0, &aging, 5000), "early late new");
    }

    #[test]
    fn a_use_that_ended_counts_from_its_end() {
        let mut records = Records::default();
        let busy = |in_use| Image { in_use, ..image("a", 1) };
        records.look(&[busy(true)], at(100), true);
        records.look(&[busy(true)], at(400), false);
        records.look(&[busy(false)], at(700), false);
        assert_eq!(records.idle(&[busy(false)])[0].1.last_used, at(400));
        let told = Image { last_used: Some(at(650)), ..busy(false) };
        records.look(std::slice::from_ref(&told), at(800), false);
        assert_eq!(records.idle(std::slice::from_ref(&told))[0].1.last_used, at(650));
    }

    proptest! {
        /// Never what is needed, never more than it takes, and no later one before an earlier.
        #[test]
        fn laws_of_collection(
            sizes in prop::collection::vec((1_u64..100, any::<bool>(), any::<bool>(), 0_i64..1000), 0..12),
            excess in 0_u64..400,
        ) {
            let images: Vec<Image> = sizes.iter().enumerate().map(|(index, (size, pinned, in_use, used))| Image {
                pinned: *pinned, in_use: *in_use, last_used: Some(at(*used)), ..image(&index.to_string(), *size)
            }).collect();
            let mut records = Records::default();
            records.look(&images, at(1000), true);
            let chosen = records.plan(&images, &SETTINGS, excess, at(1000));
            prop_assert!(chosen.iter().all(|image| !image.pinned && !image.in_use));
            prop_assert!(chosen.is_sorted_by_key(|image| image.last_used));
            let freed: u64 = chosen.iter().map(|image| image.size_bytes).sum();
            let last = chosen.last().map_or(0, |image| image.size_bytes);
            prop_assert!(chosen.is_empty() || freed - last < excess);
            let all: u64 = images.iter().filter(|one| !one.pinned && !one.in_use).map(|one| one.size_bytes).sum();
            prop_assert!(freed >= excess.min(all));
        }
    }
}
