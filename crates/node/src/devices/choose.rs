//! Which devices a container gets: as upstream chooses without a topology manager, and in the order of their IDs where
//! upstream takes any.

use std::collections::BTreeSet;

use super::AllocateError;

pub type Ids = BTreeSet<String>;

/// What is known when a container asks for devices of one resource.
pub struct Question<'a> {
    pub resource: &'a str,
    pub required: usize,
    /// What earlier init containers of the same pod had.
    pub reusable: &'a Ids,
    /// Nothing where no plugin has registered the resource.
    pub healthy: Option<Ids>,
    pub in_use: &'a Ids,
}

/// Between what can be known here and what the plugin prefers.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    /// The container's in any case.
    pub taken: Ids,
    /// What the rest is taken from.
    pub available: Ids,
    required: usize,
}

impl Choice {
    pub fn begin(question: Question<'_>) -> Result<Self, AllocateError> {
        let Question { resource, required, reusable, healthy, in_use } = question;
        let healthy = healthy.ok_or_else(|| AllocateError::Unregistered(resource.to_owned()))?;
        if healthy.is_empty() {
            return Err(AllocateError::NoneHealthy(resource.to_owned()));
        }
        let taken: Ids = reusable.iter().take(required).cloned().collect();
        let available: Ids = &healthy - in_use;
        let needed = required - taken.len();
        if available.len() < needed {
            let (resource, requested, available) = (resource.to_owned(), needed, available.len());
            return Err(AllocateError::Unavailable { resource, requested, available });
        }
        Ok(Self { taken, available, required })
    }

    pub fn is_made(&self) -> bool {
        self.taken.len() >= self.required
    }

    /// What a plugin may prefer of: also what is taken already.
    pub fn all(&self) -> Ids {
        &self.available | &self.taken
    }

    pub fn finish(self, preferred: &[String]) -> Ids {
        let Self { mut taken, available, required } = self;
        let preferred = preferred.iter().filter(|id| available.contains(*id));
        for id in preferred.chain(&available) {
            if taken.len() >= required {
                break;
            }
            taken.insert(id.clone());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Ids {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn devices_are_chosen_as_upstream_chooses() {
        let unavailable = |requested: usize, available: usize| {
            let numbers = format!("Requested: {requested}, Available: {available}");
            Err(format!("requested number of devices unavailable for a.b/c. {numbers}"))
        };
        // required, reusable, healthy, in use, preferred: who gets what
        for (required, reusable, healthy, in_use, preferred, expected) in [
            (1, "", Some("1 2"), "", "", Ok("1")),
            (1, "", Some("1 2"), "", "2", Ok("2")),
            (1, "", Some("1 2 3"), "1", "1 9", Ok("2")),
            (2, "", Some("1 2 3"), "", "3", Ok("1 3")),
            (1, "", Some("1 2 3"), "", "3 2", Ok("3")),
            (2, "5", Some("1 5"), "5", "", Ok("1 5")),
            (1, "5 6", Some("1 5 6"), "5 6", "", Ok("5")),
            (2, "", Some("1 2"), "2", "", unavailable(2, 1)),
            (3, "5", Some("1 5"), "5", "", unavailable(2, 1)),
            (
                1,
                "",
                Some(""),
                "",
                "",
                Err("no healthy devices present; cannot allocate unhealthy devices a.b/c".into()),
            ),
            (1, "", None, "", "", Err("cannot allocate unregistered device a.b/c".into())),
        ] {
            let (reusable, in_use) = (ids(reusable), ids(in_use));
            let question = Question {
                resource: "a.b/c",
                required,
                reusable: &reusable,
                healthy: healthy.map(ids),
                in_use: &in_use,
            };
            let preferred: Vec<String> = preferred.split_whitespace().map(str::to_owned).collect();
            let chosen = Choice::begin(question).map(|choice| choice.finish(&preferred));
            let chosen = chosen.map_err(|error| error.to_string());
            assert_eq!(chosen, expected.map(ids), "{required} of {healthy:?} without {in_use:?}");
        }
    }
}
