//! What is noted of a history, a line each, in the order in which it happened: an operation begins before the line that
//! says so is followed by another, and has ended when its answer is noted.

/// A version of a key: its value, `None` for a deleted one, and the revision that made it.
pub type Version = (u64, Option<String>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Any,
    Absent,
    At(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A write begins.
    Write {
        op: u64,
        key: String,
        value: Option<String>,
        condition: Condition,
    },
    /// A read of everything begins.
    Read {
        op: u64,
    },
    Committed {
        op: u64,
        revision: u64,
    },
    /// The condition did not hold: what was there, if anything.
    Conflict {
        op: u64,
        revision: u64,
        current: Option<(u64, String)>,
    },
    State {
        op: u64,
        revision: u64,
        state: Vec<(String, u64, String)>,
    },
    Watch {
        id: u64,
        from: u64,
    },
    Event {
        id: u64,
        revision: u64,
        key: String,
        value: Option<String>,
    },
    /// A watch has told of everything up to here.
    Reached {
        id: u64,
        revision: u64,
    },
}

impl Line {
    pub fn to_text(&self) -> String {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        match self {
            Self::Write { op, key, value: written, condition } => {
                let condition = match condition {
                    Condition::Any => "any".to_owned(),
                    Condition::Absent => "absent".to_owned(),
                    Condition::At(revision) => revision.to_string(),
                };
                format!("write {op} {key} {} {condition}", value(written))
            }
            Self::Read { op } => format!("read {op}"),
            Self::Committed { op, revision } => format!("committed {op} {revision}"),
            Self::Conflict { op, revision, current: None } => format!("conflict {op} {revision}"),
            Self::Conflict { op, revision, current: Some((at, value)) } => {
                format!("conflict {op} {revision} {at} {value}")
            }
            Self::State { op, revision, state } => {
                let keys: String = state.iter().map(|(key, at, value)| format!(" {key} {at} {value}")).collect();
                format!("state {op} {revision}{keys}")
            }
            Self::Watch { id, from } => format!("watch {id} {from}"),
            Self::Event { id, revision, key, value: told } => format!("event {id} {revision} {key} {}", value(told)),
            Self::Reached { id, revision } => format!("reached {id} {revision}"),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        let word = |at: usize| words.get(at).map(|word| (*word).to_owned());
        let value = |at: usize| word(at).map(|word| (word != "-").then_some(word));
        Some(match *words.first()? {
            "write" => {
                let condition = match *words.get(4)? {
                    "any" => Condition::Any,
                    "absent" => Condition::Absent,
                    revision => Condition::At(revision.parse().ok()?),
                };
                Self::Write { op: number(1)?, key: word(2)?, value: value(3)?, condition }
            }
            "read" => Self::Read { op: number(1)? },
            "committed" => Self::Committed { op: number(1)?, revision: number(2)? },
            "conflict" => Self::Conflict { op: number(1)?, revision: number(2)?, current: number(3).zip(word(4)) },
            "state" => {
                let state = words.get(3..)?.chunks(3).map(|key| match key {
                    [key, at, value] => Some(((*key).to_owned(), at.parse().ok()?, (*value).to_owned())),
                    _ => None,
                });
                Self::State { op: number(1)?, revision: number(2)?, state: state.collect::<Option<_>>()? }
            }
            "watch" => Self::Watch { id: number(1)?, from: number(2)? },
            "event" => Self::Event { id: number(1)?, revision: number(2)?, key: word(3)?, value: value(4)? },
            "reached" => Self::Reached { id: number(1)?, revision: number(2)? },
            _ => return None,
        })
    }
}
