//! Whether a history could be that of one map whose changes happen one after another.
//!
//! Each change has a revision, so the order need not be searched for: the store says it, and everything that anybody was
//! told must fit it. An operation takes effect between its beginning and its answer, so its revision is at least the
//! newest that anybody had been told of when it began.

use std::collections::{BTreeMap, HashMap, HashSet};

use libtest_mimic::Trial;

use crate::record::{Condition, Line, Version};

/// How many writes were acknowledged, or what does not fit.
pub fn check(lines: &[String], order: &[(String, Version)]) -> Result<usize, String> {
    let mut history = History::new(order)?;
    for (at, text) in lines.iter().enumerate() {
        let line = Line::parse(text).ok_or_else(|| format!("line {at} cannot be read: {text}"))?;
        history.take(line).map_err(|error| format!("line {at} ({text}): {error}"))?;
    }
    history.check_origins()?;
    Ok(history.acknowledged.len())
}

struct Begun {
    key: String,
    value: Option<String>,
    condition: Condition,
    /// The newest revision that anybody had been told of.
    floor: u64,
    refused: bool,
}

struct History<'a> {
    order: &'a [(String, Version)],
    by_key: BTreeMap<&'a str, Vec<&'a Version>>,
    floor: u64,
    writes: HashMap<u64, Begun>,
    reads: HashMap<u64, u64>,
    /// Revisions that a write was answered with.
    acknowledged: HashSet<u64>,
    /// How far each watch is: the last revision that is behind it, and the next place in the order.
    watches: HashMap<u64, usize>,
}

impl<'a> History<'a> {
    fn new(order: &'a [(String, Version)]) -> Result<Self, String> {
        let mut by_key: BTreeMap<&str, Vec<&Version>> = BTreeMap::new();
        for pair in order.windows(2) {
            if pair[0].1.0 >= pair[1].1.0 {
                return Err(format!("the store's own order is none: {pair:?}"));
            }
        }
        for (key, version) in order {
            by_key.entry(key).or_default().push(version);
        }
        let (writes, reads, watches) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { order, by_key, floor: 0, writes, reads, acknowledged: HashSet::new(), watches })
    }

    /// A key as of a revision; `None` where it does not exist.
    fn at(&self, key: &str, revision: u64) -> Option<(u64, &'a str)> {
        let versions = self.by_key.get(key)?;
        let behind = versions.partition_point(|(at, _)| *at <= revision);
        let (at, value) = versions[behind.checked_sub(1)?];
        Some((*at, value.as_deref()?))
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        let floor = self.floor;
        match line {
            Line::Write { op, key, value, condition } => {
                self.writes.insert(op, Begun { key, value, condition, floor, refused: false });
            }
            Line::Read { op } => {
                self.reads.insert(op, floor);
            }
            Line::Committed { op, revision } => {
                self.committed(op, revision)?;
                self.floor = floor.max(revision);
            }
            Line::Conflict { op, revision, current } => {
                self.conflict(op, revision, current)?;
                self.floor = floor.max(revision);
            }
            Line::State { op, revision, state } => {
                let begun = self.reads.get(&op).ok_or("a read ended that had not begun")?;
                if revision < *begun {
                    return Err(format!("it is stale: revision {begun} was known before it began"));
                }
                let keys = self.by_key.keys().filter_map(|key| {
                    self.at(key, revision).map(|(at, value)| ((*key).to_owned(), at, value.to_owned()))
                });
                let expected: Vec<_> = keys.collect();
                if state != expected {
                    return Err(format!("at that revision there was {expected:?}"));
                }
                self.floor = floor.max(revision);
            }
            Line::Watch { id, from } => {
                let next = self.order.partition_point(|(_, (revision, _))| *revision <= from);
                self.watches.insert(id, next);
            }
            Line::Event { id, revision, key, value } => {
                let next = self.watches.get_mut(&id).ok_or("an event of no watch")?;
                let expected = self.order.get(*next);
                if expected != Some(&(key, (revision, value))) {
                    return Err(format!("the next in the commit order is {expected:?}"));
                }
                *next += 1;
                self.floor = floor.max(revision);
            }
            Line::Reached { id, revision } => {
                let next = *self.watches.get(&id).ok_or("an end of no watch")?;
                if let Some((key, (missed, _))) = self.order.get(next).filter(|(_, (at, _))| *at <= revision) {
                    return Err(format!("it was not told of {key} at revision {missed}"));
                }
            }
        }
        Ok(())
    }

    fn committed(&mut self, op: u64, revision: u64) -> Result<(), String> {
        let begun = self.writes.get(&op).ok_or("a write ended that had not begun")?;
        if revision <= begun.floor {
            return Err(format!("revision {} was known before it began", begun.floor));
        }
        let found = self.order.iter().find(|(_, (at, _))| *at == revision);
        if found.is_none_or(|(key, (_, value))| *key != begun.key || *value != begun.value) {
            return Err(format!("it was acknowledged, and at its revision there is {found:?}"));
        }
        let before = self.at(&begun.key, revision - 1).map(|(at, _)| at);
        let holds = match begun.condition {
            Condition::Any => true,
            Condition::Absent => before.is_none(),
            Condition::At(expected) => before == Some(expected),
        };
        if !holds {
            return Err(format!("its condition did not hold: before it the key was at {before:?}"));
        }
        if !self.acknowledged.insert(revision) {
            return Err("two writes were answered with the same revision".into());
        }
        Ok(())
    }

    fn conflict(&mut self, op: u64, revision: u64, current: Option<(u64, String)>) -> Result<(), String> {
        let begun = self.writes.get_mut(&op).ok_or("a write ended that had not begun")?;
        begun.refused = true;
        let (key, floor, condition) = (begun.key.clone(), begun.floor, begun.condition.clone());
        if revision < floor {
            return Err(format!("it is stale: revision {floor} was known before it began"));
        }
        let shown = current.as_ref().map(|(at, value)| (*at, value.as_str()));
        let was_so = (floor..=revision).any(|at| self.at(&key, at) == shown);
        if !was_so {
            return Err(format!("the key never was so between revisions {floor} and {revision}"));
        }
        let held = match condition {
            Condition::Any => true,
            Condition::Absent => shown.is_none(),
            Condition::At(expected) => shown.is_some_and(|(at, _)| at == expected),
        };
        if held { Err("its condition held".into()) } else { Ok(()) }
    }

    /// Everything that was committed was asked for by somebody, once, and refused to nobody.
    fn check_origins(&self) -> Result<(), String> {
        let mut taken = HashSet::new();
        for (key, (revision, value)) in self.order {
            let before = self.at(key, revision - 1).map(|(at, _)| at);
            let asked = self.writes.iter().find(|(op, begun)| {
                let fits = begun.key == *key && begun.value == *value && !begun.refused && !taken.contains(*op);
                fits && (value.is_some() || matches!(begun.condition, Condition::At(at) if Some(at) == before))
            });
            match asked {
                Some((op, _)) => taken.insert(*op),
                None => return Err(format!("nobody asked for {key} at revision {revision} ({value:?})")),
            };
        }
        Ok(())
    }
}

/// A checker that finds nothing is worse than none: histories that are wrong in one place each.
pub fn trials() -> Vec<Trial> {
    let good = "write 1 a x absent|committed 1 2|read 2|state 2 2 a 2 x|watch 9 1|event 9 2 a x|reached 9 2|\
                write 3 a y 2|committed 3 3|event 9 3 a y|write 4 a z 2|conflict 4 3 3 y|write 5 a - 3|committed 5 4";
    let order = [("a", 2, Some("x")), ("a", 3, Some("y")), ("a", 4, None)];
    let order = order.map(|(key, revision, value)| (key.to_owned(), (revision, value.map(str::to_owned)))).to_vec();
    let rows = [
        ("is_right", "", "", ""),
        (
            "lost_an_acknowledged_write",
            "committed 5 4",
            "committed 5 4|write 6 b q any|committed 6 5",
            "was acknowledged",
        ),
        ("reads_what_is_past", "conflict 4 3 3 y", "read 6|state 6 2 a 2 x|conflict 4 3 3 y", "it is stale"),
        ("reads_what_never_was", "state 2 2 a 2 x", "state 2 2 a 2 q", "at that revision"),
        ("uses_a_revision_twice", "committed 5 4", "write 6 a y any|committed 6 3", "was known before"),
        ("tells_an_event_twice", "event 9 3 a y", "event 9 2 a x", "the next in the commit order"),
        ("misses_an_event", "event 9 2 a x|reached 9 2", "reached 9 2", "was not told"),
        ("refuses_what_holds", "write 4 a z 2|conflict 4 3 3 y", "write 4 a z 3|conflict 4 3 3 y", "condition held"),
        ("commits_what_does_not_hold", "write 3 a y 2", "write 3 a y absent", "did not hold"),
        ("has_what_nobody_asked_for", "|write 5 a - 3|committed 5 4", "", "nobody asked"),
    ];
    let trials = rows.map(|(name, from, to, expected)| {
        let order = order.clone();
        Trial::test(format!("a_history_that_{name}"), move || {
            assert!(good.contains(from), "{name}");
            let lines: Vec<String> =
                good.replacen(from, to, usize::from(!from.is_empty())).split('|').map(str::to_owned).collect();
            match check(&lines, &order) {
                Ok(3) if expected.is_empty() => Ok(()),
                Err(error) if !expected.is_empty() && error.contains(expected) => Ok(()),
                other => Err(format!("{other:?}").into()),
            }
        })
    });
    trials.into()
}
