//! `data/resources-1.36.tsv` to rows of `registry::Resource`.

use std::fmt::Write;

pub fn generate(tsv: &str) -> String {
    let mut rows: Vec<Vec<&str>> =
        tsv.lines().skip(1).filter(|l| !l.is_empty()).map(|l| l.split('\t').collect()).collect();
    rows.sort_by_key(|r| (r[0].to_owned(), r[1].to_owned(), r[4].to_owned()));
    let mut out = String::from("static BUILTINS: &[Resource] = &[\n");
    for row in rows {
        let [group, version, kind, _, plural, singular, namespaced, verbs, short_names, categories, subresources] =
            row[..]
        else {
            panic!("data/resources-1.36.tsv: a row has {} columns instead of 11: {row:?}", row.len());
        };
        writeln!(
            out,
            "Resource {{ group: {group:?}, version: {version:?}, kind: {kind:?}, custom_list_kind: \"\", \
             plural: {plural:?}, singular: {singular:?}, namespaced: {namespaced}, verbs: &{}, short_names: &{:?}, \
             categories: &{:?}, subresources: &[{}], storage: {:?} }},",
            verb_list(verbs),
            list(short_names),
            list(categories),
            subresources
                .split(';')
                .filter(|s| !s.is_empty())
                .map(|s| subresource(s, group, version))
                .collect::<String>(),
            storage(group, plural),
        )
        .expect("a String takes all");
    }
    out + "];\n"
}

fn list(column: &str) -> Vec<&str> {
    column.split(',').filter(|s| !s.is_empty()).collect()
}

fn verb_list(column: &str) -> String {
    let verbs: Vec<_> = list(column)
        .into_iter()
        .map(|verb| match verb {
            "create" => "Verb::Create",
            "delete" => "Verb::Delete",
            "deletecollection" => "Verb::DeleteCollection",
            "get" => "Verb::Get",
            "list" => "Verb::List",
            "patch" => "Verb::Patch",
            "update" => "Verb::Update",
            "watch" => "Verb::Watch",
            other => panic!("data/resources-1.36.tsv: no such verb: {other}"),
        })
        .collect();
    format!("[{}]", verbs.join(", "))
}

/// `name[group/version/Kind:verb,verb]`; an empty group and version are the parent's.
fn subresource(text: &str, group: &str, version: &str) -> String {
    let (name, rest) = text.strip_suffix(']').and_then(|t| t.split_once('[')).unwrap_or_else(|| panic!("{text}"));
    let (gvk, verbs) = rest.split_once(':').unwrap_or_else(|| panic!("{text}"));
    let gvk: Vec<&str> = gvk.split('/').collect();
    let (g, v) = if gvk[0].is_empty() && gvk[1].is_empty() { (group, version) } else { (gvk[0], gvk[1]) };
    let kind = gvk[2];
    format!(
        "Subresource {{ name: {name:?}, group: {g:?}, version: {v:?}, kind: {kind:?}, verbs: &{} }},",
        verb_list(verbs)
    )
}

fn storage(group: &str, plural: &str) -> String {
    match (group, plural) {
        ("" | "events.k8s.io", _) => plural.to_owned(),
        _ => format!("{plural}.{group}"),
    }
}
