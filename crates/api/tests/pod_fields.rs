//! `docs/pod-fields.md` says what becomes of each field of a pod's spec; here it is compared with the schema and with the
//! files that it names. With `KNARR_POD_FIELDS=write` what is missing is added, to be answered by whoever runs it.

#![allow(clippy::disallowed_methods)] // the page and the sources are files

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use knarr_api::schema::{self, TypeRef};

const PAGE: &str = "../../docs/pod-fields.md";
const HEAD: &str = "| fields | what becomes of them | where |\n| --- | --- | --- |\n";

/// One line of the page, which is about one or more fields of one or more types.
struct Row {
    types: Vec<String>,
    fields: Vec<String>,
    fate: String,
    files: Vec<PathBuf>,
}

impl Row {
    /// What is below it is not listed: it is refused as a whole, or another page is about it.
    fn is_the_end(&self) -> bool {
        self.fate.starts_with("refused") || self.fate.contains("](")
    }
}

fn rows(page: &str) -> Vec<Row> {
    let mut types = Vec::new();
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(names) = line.strip_prefix("## ") {
            types = names.split(", ").map(str::to_owned).collect();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", fields, fate, files, ""] = cells[..] else { continue };
        if !fields.starts_with('`') {
            continue;
        }
        let fields = fields.split(", ").map(|field| field.trim_matches('`').to_owned()).collect();
        let files = files.split(", ").map(|file| Path::new("..").join(file)).collect();
        rows.push(Row { types: types.clone(), fields, fate: fate.to_owned(), files });
    }
    rows
}

fn short(ty: TypeRef<'_>) -> String {
    ty.name().rsplit('.').next().unwrap_or_default().to_owned()
}

/// Lists and maps are about their elements.
fn inner(mut ty: TypeRef<'_>) -> TypeRef<'_> {
    while matches!(ty.kind(), schema::Kind::List | schema::Kind::Map) {
        ty = ty.element();
    }
    ty
}

/// The fields of each type that a pod's spec leads to, but for those below what `rows` end at.
fn fields(rows: &[Row]) -> BTreeMap<String, BTreeSet<String>> {
    let ends = |ty: &str, field: &str| {
        let here = |row: &&Row| row.types.iter().any(|own| own == ty) && row.fields.iter().any(|own| own == field);
        rows.iter().find(here).is_some_and(Row::is_the_end)
    };
    let spec = schema::of("", "v1", "Pod").unwrap().child("spec").unwrap();
    let (mut found, mut waiting) = (BTreeMap::new(), vec![spec]);
    while let Some(ty) = waiting.pop() {
        let name = short(ty);
        let own: BTreeSet<String> = ty.fields().map(|field| field.name().to_owned()).collect();
        if own.is_empty() || found.contains_key(&name) {
            continue;
        }
        waiting.extend(ty.fields().filter(|field| !ends(&name, field.name())).map(|field| inner(field.ty())));
        found.insert(name, own);
    }
    found
}

/// `hostIPC` as Rust has it: `host_ipc`.
fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let after_small = at > 0 && !letters[at - 1].is_uppercase();
        let before_small = at > 0 && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_small || before_small) {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// A source file in one line, so that words are found that are broken over several.
fn source(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Whether the files that a row names are those where its fields act, and have the words that refuse.
fn check_files(row: &Row) -> Vec<String> {
    let (texts, unread): (Vec<_>, Vec<_>) = row.files.iter().map(|file| source(file)).partition(Result::is_ok);
    let mut faults: Vec<String> = unread.into_iter().filter_map(Result::err).collect();
    let said = |words: &str| texts.iter().flatten().any(|text| text.contains(words));
    let refused = row.fate.starts_with("refused");
    for field in row.fields.iter().filter(|field| !refused && !said(field) && !said(&snake(field))) {
        faults.push(format!("{}.{field}: {:?} do not speak of it", row.types[0], row.files));
    }
    let quoted: Vec<&str> = row.fate.split('"').skip(1).step_by(2).collect();
    if refused && quoted.is_empty() {
        faults.push(format!("{}: in which words are {:?} refused?", row.types[0], row.fields));
    }
    for words in quoted.into_iter().filter(|words| !said(words)) {
        faults.push(format!("{}: {words:?} is not in {:?}", row.types[0], row.files));
    }
    faults
}

#[test]
fn the_page_is_about_every_field_and_no_other() {
    let page = fs::read_to_string(PAGE).unwrap();
    let rows = rows(&page);
    let mut faults: Vec<String> = rows.iter().flat_map(check_files).collect();
    let mut missing = fields(&rows);
    let mut used = BTreeSet::new();
    for row in &rows {
        for field in &row.fields {
            let owners: Vec<&String> =
                row.types.iter().filter(|ty| missing.get_mut(*ty).is_some_and(|own| own.remove(field))).collect();
            if owners.is_empty() {
                faults.push(format!("{} have no {field}, or it is there twice", row.types.join(", ")));
            }
            used.extend(owners.into_iter().cloned());
        }
    }
    missing.retain(|_, fields| !fields.is_empty());
    if std::env::var("KNARR_POD_FIELDS").is_ok_and(|how| how == "write") && !missing.is_empty() {
        fs::write(PAGE, with_questions(&page, &missing)).unwrap();
    }
    faults.extend(missing.iter().map(|(ty, fields)| format!("{ty}: nothing is said of {fields:?}")));
    faults.extend(rows.iter().filter(|row| row.fate == "?").map(|row| format!("{:?} are not answered", row.fields)));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The page with a line for what is missing, each below its type's.
fn with_questions(page: &str, missing: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut out = page.to_owned();
    for (ty, fields) in missing {
        let names = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
        let line = format!("| {names} | ? | |\n");
        match out.find(&format!("## {ty}\n\n{HEAD}")) {
            Some(at) => out.insert_str(at + "## \n\n".len() + ty.len() + HEAD.len(), &line),
            None => write!(out, "\n## {ty}\n\n{HEAD}{line}").unwrap(),
        }
    }
    out
}

#[test]
fn names_are_found_as_rust_has_them() {
    for (name, expected) in [
        ("hostIPC", "host_ipc"),
        ("setHostnameAsFQDN", "set_hostname_as_fqdn"),
        ("seLinuxOptions", "se_linux_options"),
        ("downwardAPI", "downward_api"),
        ("httpGet", "http_get"),
        ("name", "name"),
    ] {
        assert_eq!(snake(name), expected);
    }
}
