//! `-o`: how objects are printed.

pub mod table;
pub mod template;

use std::borrow::Cow;

use knarr_api::jsonpath::JsonPath;
use serde_json::{Value, json};

use crate::{
    cx::{Cx, dig_str, write_out},
    error::{Error, Result},
    fail, say, tabs, yaml,
};
use template::Template;

const FORMATS: &str = "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,wide,yaml";

#[derive(Clone, Debug)]
pub enum Format {
    /// None was asked for.
    Default,
    Wide,
    Json,
    Yaml,
    Name,
    JsonPath(JsonPath),
    JsonPathAsJson(JsonPath),
    Template(Template),
    Columns(Vec<(String, JsonPath)>),
}

impl Format {
    pub fn of(cx: &Cx) -> Result<Self> {
        let flags = &cx.flags;
        let template = flags.some("template");
        let typed = match (flags.some("output"), template) {
            (None, Some(_)) => "go-template",
            (None, None) => return Ok(Format::Default),
            (Some(typed), _) => typed,
        };
        let (name, argument) = typed.split_once('=').map_or((typed, None), |(name, argument)| (name, Some(argument)));
        let argument = argument.filter(|argument| !argument.is_empty()).or(template);
        let given = |what: &str| argument.ok_or_else(|| fail!("{what} format specified but no {what} given"));
        let from_file =
            |path: &str| std::fs::read_to_string(path).map_err(|error| fail!("error reading template {path}, {error}"));
        let path = |text: &str| JsonPath::parse(text).map_err(|error| fail!("error parsing jsonpath {text}, {error}"));
        let go = |text: &str| Template::parse(text).map_err(|error| fail!("error parsing template {text}, {error}"));
        Ok(match name {
            "wide" => Format::Wide,
            "json" => Format::Json,
            "yaml" => Format::Yaml,
            "name" => Format::Name,
            "jsonpath" => Format::JsonPath(path(
                argument.ok_or_else(|| fail!("template format specified but no template given"))?,
            )?),
            "jsonpath-file" => Format::JsonPath(path(&from_file(given("template")?)?)?),
            "jsonpath-as-json" => Format::JsonPathAsJson(path(given("template")?)?),
            "go-template" | "template" => Format::Template(go(given("template")?)?),
            "go-template-file" | "templatefile" => Format::Template(go(&from_file(given("template")?)?)?),
            "custom-columns" => Format::Columns(columns(given("custom-columns")?)?),
            "custom-columns-file" => Format::Columns(columns_file(&from_file(given("custom-columns")?)?)?),
            "kyaml" => return Err(fail!("the output format \"kyaml\" is not built: use yaml, which is read the same")),
            _ => {
                return Err(fail!(
                    "unable to match a printer suitable for the output format \"{typed}\", allowed formats are: {FORMATS}"
                ));
            }
        })
    }

    /// Nothing but the server's table can answer.
    pub fn is_table(&self) -> bool {
        matches!(self, Format::Default | Format::Wide)
    }
}

fn columns(spec: &str) -> Result<Vec<(String, JsonPath)>> {
    spec.split(',')
        .map(|column| {
            let bad = || fail!("unexpected custom-columns spec: {column}, expected <header>:<json-path-expr>");
            let (header, path) = column.split_once(':').ok_or_else(bad)?;
            Ok((header.to_owned(), JsonPath::relaxed(path).map_err(|error| fail!("{error}"))?))
        })
        .collect()
}

fn columns_file(text: &str) -> Result<Vec<(String, JsonPath)>> {
    let mut lines = text.lines();
    let words = |line: Option<&str>| line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (headers, paths) = (words(lines.next()), words(lines.next()));
    if headers.is_empty() || headers.len() != paths.len() {
        return Err(fail!(
            "number of headers ({}) and field specifications ({}) don't match",
            headers.len(),
            paths.len()
        ));
    }
    headers
        .into_iter()
        .zip(&paths)
        .map(|(header, path)| Ok((header, JsonPath::relaxed(path).map_err(|error| fail!("{error}"))?)))
        .collect()
}

/// Prints objects one after another in one format.
pub struct Printer {
    format: Format,
    keep_managed: bool,
    missing_ok: bool,
    headers: bool,
    printed: usize,
}

impl Printer {
    pub fn new(cx: &Cx, format: Format) -> Self {
        Self {
            format,
            keep_managed: cx.flags.on("show-managed-fields"),
            missing_ok: cx.flags.switch("allow-missing-template-keys").unwrap_or(true),
            headers: !cx.flags.on("no-headers"),
            printed: 0,
        }
    }

    pub fn object(&mut self, object: &Value) -> Result<()> {
        let text = self.render(object)?;
        self.printed += 1;
        write_out(&text)
    }

    fn render(&mut self, object: &Value) -> Result<String> {
        let mut object = object.clone();
        if !self.keep_managed {
            drop_managed_fields(&mut object);
        }
        Ok(match &self.format {
            Format::Default | Format::Wide | Format::Name => {
                let names: Vec<String> = flatten(&object).map(name).collect();
                names.iter().map(|name| format!("{name}\n")).collect()
            }
            Format::Json => pretty(&object) + "\n",
            Format::Yaml => {
                let separator = if self.printed > 0 { "---\n" } else { "" };
                format!("{separator}{}", yaml::to_string(&object))
            }
            Format::JsonPath(path) => {
                path.print(&object, self.missing_ok).map_err(|error| fail!("error executing jsonpath: {error}"))?
            }
            Format::JsonPathAsJson(path) => {
                let found =
                    path.find(&object, self.missing_ok).map_err(|error| fail!("error executing jsonpath: {error}"))?;
                pretty(&found.into_iter().flatten().map(Cow::into_owned).collect()) + "\n"
            }
            Format::Template(template) => {
                template.print(&object).map_err(|error| fail!("error executing template: {error}"))?
            }
            Format::Columns(columns) => {
                let mut text = String::new();
                if self.headers && self.printed == 0 {
                    text += &columns.iter().map(|(header, _)| header.as_str()).collect::<Vec<_>>().join("\t");
                    text.push('\n');
                }
                for object in flatten(&object) {
                    let cell = |(_, path): &(String, JsonPath)| {
                        let found = path.find(object, true).map_err(|error| fail!("{error}"))?;
                        let values: Vec<String> = found.iter().flatten().map(|value| template::shown(value)).collect();
                        Ok(if values.is_empty() { "<none>".to_owned() } else { values.join(",") })
                    };
                    text += &columns.iter().map(cell).collect::<Result<Vec<_>>>()?.join("\t");
                    text.push('\n');
                }
                tabs::TABLE.align(&text)
            }
        })
    }
}

fn flatten(object: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match object["items"].as_array() {
        Some(items) if dig_str(object, "kind").ends_with("List") => Box::new(items.iter()),
        _ => Box::new(std::iter::once(object)),
    }
}

/// `deployment.apps/web`
pub fn name(object: &Value) -> String {
    let (group, _) = dig_str(object, "apiVersion").split_once('/').unwrap_or_default();
    let kind = dig_str(object, "kind").to_lowercase();
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group}/{}", dig_str(object, "metadata.name"))
}

pub fn drop_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        drop_managed_fields(item);
    }
}

/// JSON as Go indents it; what HTML would misread is escaped.
pub fn pretty(value: &Value) -> String {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter));
    written.unwrap_or_else(|error| unreachable!("a JSON value can be written: {error}"));
    go_escapes(&String::from_utf8_lossy(&bytes))
}

/// The characters that Go's encoder escapes; they occur nowhere but in strings.
pub fn go_escapes(json: &str) -> String {
    let escapes =
        [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029")];
    escapes.iter().fold(json.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Says what was done to an object, or prints it in the format that was asked for.
pub struct Reporter {
    printer: Option<Printer>,
    only_names: bool,
    dry_run: &'static str,
}

impl Reporter {
    pub fn new(cx: &Cx) -> Result<Self> {
        let format = Format::of(cx)?;
        let only_names = matches!(format, Format::Name);
        if matches!(format, Format::Wide) {
            return Err(fail!(
                "unable to match a printer suitable for the output format \"wide\", allowed formats are: {FORMATS}"
            ));
        }
        let printer = (!format.is_table() && !only_names).then(|| Printer::new(cx, format));
        Ok(Self { printer, only_names, dry_run: cx.dry_run()?.note() })
    }

    pub fn done(&mut self, object: &Value, what: &str) -> Result<()> {
        match &mut self.printer {
            Some(printer) => printer.object(object),
            None if self.only_names => say!("{}", name(object)),
            None => say!("{} {what}{}", name(object), self.dry_run),
        }
    }

    pub fn silent_about_dry_run(self) -> Self {
        Self { dry_run: "", ..self }
    }

    pub fn says_it(&self) -> bool {
        self.printer.is_none()
    }
}

/// Several objects as one, as `get -o yaml` prints them.
pub fn list_of(objects: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}})
}

/// The error of a flag that Knarr knows and does not act on.
pub fn refuse(flag: &str, instead: &str) -> Error {
    fail!("--{flag} is not supported by knarr: {instead}")
}
