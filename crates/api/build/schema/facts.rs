//! `data/schema-facts-1.36.tsv` and `data/schema-defaults-1.36.tsv`.

use std::collections::HashMap;

type Key = (String, String);

#[derive(Default)]
pub struct Facts {
    facts: HashMap<Key, HashMap<String, String>>,
    defaults: HashMap<Key, String>,
}

impl Facts {
    pub fn parse(facts: &str, defaults: &str) -> Facts {
        let facts = rows(facts)
            .map(|(key, facts)| {
                let pairs =
                    facts.split(' ').map(|fact| fact.split_once('=').unwrap_or_else(|| panic!("{key:?} {fact}")));
                (key.clone(), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
            })
            .collect();
        Facts { facts, defaults: rows(defaults).collect() }
    }

    pub fn get(&self, definition: &str, property: &str, fact: &str) -> String {
        let key = (definition.to_owned(), property.to_owned());
        self.facts.get(&key).and_then(|f| f.get(fact)).cloned().unwrap_or_default()
    }

    pub fn list(&self, definition: &str, property: &str, fact: &str) -> Vec<String> {
        let text = self.get(definition, property, fact);
        text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }

    pub fn is_required(&self, definition: &str, property: &str) -> bool {
        self.list(definition, "-", "required").iter().any(|r| r == property)
    }

    pub fn map_type(&self, definition: &str, property: &str) -> Option<&'static str> {
        match self.get(definition, property, "map").as_str() {
            "atomic" => Some("Atomic"),
            "granular" => Some("Granular"),
            _ => None,
        }
    }

    /// The definitions and properties that have defaults; each must exist.
    pub fn with_defaults(&self) -> impl Iterator<Item = &Key> {
        self.defaults.keys()
    }

    pub fn default(&self, definition: &str, property: &str) -> String {
        self.defaults.get(&(definition.to_owned(), property.to_owned())).cloned().unwrap_or_default()
    }
}

/// The definitions and properties of a table, and what it says of them.
pub fn rows(tsv: &str) -> impl Iterator<Item = (Key, String)> {
    tsv.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(|line| {
        let mut columns = line.splitn(3, '\t').map(str::to_owned);
        let mut next = || columns.next().unwrap_or_else(|| panic!("too few columns: {line}"));
        ((next(), next()), next())
    })
}
