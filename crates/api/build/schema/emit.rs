//! The table as Rust statics and a compressed file of descriptions.

use std::{collections::HashMap, fmt::Write as _, io::Write as _};

use super::Node;

pub struct Output {
    /// Rust source: `static BUILTIN: Table`, `static KINDS`, `static ENUMS`, `HASH`.
    pub source: String,
    /// Deflated: the number of descriptions, where each ends, and their text.
    pub docs: Vec<u8>,
}

/// Strings laid end to end; equal strings are kept once.
#[derive(Default)]
struct Texts {
    text: String,
    known: HashMap<String, (usize, usize)>,
}

impl Texts {
    fn add(&mut self, text: &str) -> String {
        let next = (self.text.len(), text.len());
        let &mut (start, length) = self.known.entry(text.to_owned()).or_insert(next);
        if start == self.text.len() {
            self.text.push_str(text);
        }
        format!("Text({start}, {length})")
    }
}

#[derive(Default)]
struct Docs {
    all: Vec<String>,
    known: HashMap<String, usize>,
}

impl Docs {
    fn add(&mut self, text: &str) -> usize {
        *self.known.entry(text.to_owned()).or_insert_with(|| {
            self.all.push(text.to_owned());
            self.all.len() - 1
        })
    }

    fn compress(&self) -> Vec<u8> {
        let mut bytes = (self.all.len() as u32).to_le_bytes().to_vec();
        let mut end = 0u32;
        for doc in &self.all {
            end += doc.len() as u32;
            bytes.extend(end.to_le_bytes());
        }
        bytes.extend(self.all.iter().flat_map(|doc| doc.bytes()));
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&bytes).and_then(|()| encoder.finish()).expect("a Vec takes all")
    }
}

pub fn emit(nodes: &[Node], kinds: &[(String, String, String, usize)], enums: &str, writers: &str) -> Output {
    let (mut texts, mut docs) = (Texts::default(), Docs::default());
    docs.add("");
    let (mut node_rows, mut field_rows, mut key_rows) = (String::new(), String::new(), String::new());
    let (mut field_count, mut key_count) = (0, 0);
    for node in nodes {
        let (first, count) = match node.kind {
            "Struct" => (field_count, node.fields.len()),
            _ => (key_count, node.keys.len()),
        };
        writeln!(
            node_rows,
            "Node {{ kind: Kind::{}, relation: Relation::{}, name: {}, element: {}, first: {first}, count: {count}, open: false, doc: {} }},",
            node.kind, node.relation, texts.add(&node.name), node.element, docs.add(&node.description),
        )
        .expect("a String takes all");
        for key in &node.keys {
            writeln!(key_rows, "{},", texts.add(key)).expect("a String takes all");
            key_count += 1;
        }
        for field in &node.fields {
            let patch = |strategy: &str| field.patch.iter().any(|p| p == strategy);
            writeln!(
                field_rows,
                "Field {{ name: {}, node: {}, required: {}, nullable: false, merge: {}, replace: {}, retain_keys: {}, merge_key: {}, \
                 default: {}, doc: {} }},",
                texts.add(&field.name),
                field.node,
                field.required,
                patch("merge"),
                patch("replace"),
                patch("retainKeys"),
                texts.add(&field.merge_key),
                texts.add(&field.default),
                docs.add(&field.description),
            )
            .expect("a String takes all");
            field_count += 1;
        }
    }
    let docs = docs.compress();
    let mut source = format!(
        "use std::borrow::Cow;\nuse crate::schema::table::{{Field, Kind, Node, Relation, Table, Text}};\n\
         pub(crate) static BUILTIN: Table = Table {{\nnodes: Cow::Borrowed(&[\n{node_rows}]),\n\
         fields: Cow::Borrowed(&[\n{field_rows}]),\nkeys: Cow::Borrowed(&[\n{key_rows}]),\ntext: Cow::Borrowed({:?}),\n}};\n\
         pub(crate) static KINDS: &[(&str, &str, &str, u32)] = &[\n",
        texts.text
    );
    for (group, version, kind, node) in kinds {
        writeln!(source, "({group:?}, {version:?}, {kind:?}, {node}),").expect("a String takes all");
    }
    source.push_str("];\n");
    source.push_str(enums);
    writeln!(
        source,
        "/// Changes with anything in the table, and with the code that writes documents from it.\npub(crate) const HASH: u64 = {};",
        hash(&[source.as_bytes(), &docs, writers.as_bytes()])
    )
    .expect("a String takes all");
    Output { source, docs }
}

/// FNV-1a: stable between builds, which the standard library's hasher does not promise.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().copied().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
