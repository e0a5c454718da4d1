//! Which objects a command line means: `pods`, `po/x`, `deploy,svc -l app=web`, `-f FILE`.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    api::Query,
    cx::{Cx, dig_str},
    discovery::Resource,
    error::{Error, Result},
    fail, files,
};

/// How many objects a list is asked for at once; 0 is all.
pub fn page_size(cx: &Cx) -> Result<u64> {
    Ok(cx.flags.number("chunk-size")?.unwrap_or(500))
}

/// One object, and where the server has it.
#[derive(Clone, Debug)]
pub struct Info {
    pub resource: Arc<Resource>,
    /// Empty for what is in no namespace.
    pub namespace: String,
    pub name: String,
    pub object: Value,
    /// The file that it was read from; empty where it came from the server.
    pub source: String,
}

impl Info {
    pub fn path(&self, subresource: Option<&str>) -> String {
        self.resource.path(Some(&self.namespace), Some(&self.name), subresource)
    }

    pub fn collection(&self) -> String {
        self.resource.path(Some(&self.namespace), None, None)
    }

    /// `deployment.apps/web`
    pub fn label(&self) -> String {
        format!("{}/{}", self.resource.kind_name(), self.name)
    }

    pub fn of(resource: &Arc<Resource>, object: Value) -> Self {
        Self {
            resource: resource.clone(),
            namespace: dig_str(&object, "metadata.namespace").into(),
            name: dig_str(&object, "metadata.name").into(),
            object,
            source: String::new(),
        }
    }
}

/// What was typed, before anything is fetched.
#[derive(Clone, Debug)]
pub struct Asked {
    pub resource: Arc<Resource>,
    /// `None` means all of them.
    pub name: Option<String>,
}

#[derive(Default)]
pub struct Found {
    pub infos: Vec<Info>,
    pub errors: Vec<Error>,
    /// One object was asked for by its name.
    pub single: bool,
    /// The objects were found by the beginning of their names.
    pub by_prefix: bool,
}

impl Found {
    /// The objects, where nothing went wrong.
    pub fn all(mut self) -> Result<Vec<Info>> {
        Error::collected(std::mem::take(&mut self.errors))?;
        Ok(self.infos)
    }
}

/// How a command looks for objects.
#[derive(Clone, Debug, Default)]
pub struct Search {
    pub args: Vec<String>,
    pub selector: String,
    pub field_selector: String,
    pub all_namespaces: bool,
    /// A kind without names means all of its objects.
    pub all: bool,
    /// Only who is meant is asked for, not the objects themselves.
    pub names_only: bool,
    /// Objects of files are taken from the server.
    pub latest: bool,
}

impl Search {
    pub fn from_flags(cx: &Cx) -> Self {
        let flags = &cx.flags;
        Self {
            args: flags.args().into_iter().map(str::to_owned).collect(),
            selector: flags.some("selector").unwrap_or_default().into(),
            field_selector: flags.some("field-selector").unwrap_or_default().into(),
            all_namespaces: flags.on("all-namespaces"),
            all: flags.on("all"),
            names_only: false,
            latest: true,
        }
    }

    pub fn listing(mut self) -> Self {
        self.all = true;
        self
    }

    pub fn with_args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    pub async fn run(&self, cx: &Cx) -> Result<Found> {
        if !cx.flags.list("filename").is_empty() {
            return self.written(cx).await;
        }
        let asked = parse(cx, &self.args, self.has_selector() || self.all).await?;
        let mut found = Found { single: asked.len() == 1 && asked[0].name.is_some(), ..Found::default() };
        for one in asked {
            if let Err(error) = self.fetch(cx, &one, &mut found).await {
                found.errors.push(error);
            }
        }
        Ok(found)
    }

    fn has_selector(&self) -> bool {
        !self.selector.is_empty() || !self.field_selector.is_empty()
    }

    async fn fetch(&self, cx: &Cx, asked: &Asked, found: &mut Found) -> Result<()> {
        let resource = &asked.resource;
        let namespace = if resource.namespaced { cx.namespace().await? } else { String::new() };
        let Some(name) = &asked.name else {
            let scope = (!self.all_namespaces).then_some(namespace.as_str());
            found.infos.extend(self.list(cx, resource, scope).await?);
            return Ok(());
        };
        if self.has_selector() {
            return Err(fail!("name cannot be provided when a selector is specified"));
        }
        if self.all_namespaces && resource.namespaced {
            return Err(fail!("a resource cannot be retrieved by name across all namespaces"));
        }
        let path = resource.path(Some(&namespace), Some(name), cx.flags.some("subresource"));
        let object = if self.names_only { Value::Null } else { cx.api().await?.get(&path).await? };
        let name = name.clone();
        found.infos.push(Info { resource: resource.clone(), namespace, name, object, source: String::new() });
        Ok(())
    }

    /// All that the selectors choose, page by page.
    pub async fn list(&self, cx: &Cx, resource: &Arc<Resource>, namespace: Option<&str>) -> Result<Vec<Info>> {
        let (mut infos, mut next, limit) = (Vec::new(), String::new(), page_size(cx)?);
        loop {
            let query = Query::default()
                .add("labelSelector", &self.selector)
                .add("fieldSelector", &self.field_selector)
                .add("limit", limit)
                .add("continue", &next);
            let mut page = cx.api().await?.get(&query.on(&resource.path(namespace, None, None))).await?;
            next = dig_str(&page, "metadata.continue").into();
            for mut object in page["items"].as_array_mut().map(std::mem::take).unwrap_or_default() {
                object["kind"] = resource.kind.clone().into();
                object["apiVersion"] = resource.api_version().into();
                infos.push(Info::of(resource, object));
            }
            if next.is_empty() {
                return Ok(infos);
            }
        }
    }

    async fn written(&self, cx: &Cx) -> Result<Found> {
        if !self.args.is_empty() {
            return Err(fail!(
                "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well"
            ));
        }
        let written = from_files(cx).await?;
        let mut found = Found { errors: written.errors, ..Found::default() };
        for mut info in written.infos {
            if self.latest && !self.names_only {
                match cx.api().await?.get(&info.path(None)).await {
                    Ok(object) => info.object = object,
                    Err(error) => {
                        found.errors.push(error);
                        continue;
                    }
                }
            }
            found.infos.push(info);
        }
        found.single = found.infos.len() == 1;
        Ok(found)
    }
}

/// The objects of `-f` as they are written there, with the namespace that they go to.
pub async fn from_files(cx: &Cx) -> Result<Found> {
    let mut found = Found::default();
    for written in files::read(cx).await? {
        match placed(cx, written.object, &written.source).await {
            Ok(info) => found.infos.push(info),
            Err(error) => found.errors.push(error),
        }
    }
    Ok(found)
}

/// An object with its place on the server.
pub async fn placed(cx: &Cx, mut object: Value, source: &str) -> Result<Info> {
    let (version, kind) = (dig_str(&object, "apiVersion").to_owned(), dig_str(&object, "kind").to_owned());
    let name = dig_str(&object, "metadata.name").to_owned();
    let own = dig_str(&object, "metadata.namespace").to_owned();
    let resource = cx.discovery().await?.of_kind(&version, &kind).ok_or_else(|| {
        fail!(
            "resource mapping not found for name: \"{name}\" namespace: \"{own}\" from \"{source}\": no matches for kind \"{kind}\" in version \"{version}\"\nensure CRDs are installed first"
        )
    })?;
    let mut namespace = String::new();
    if resource.namespaced {
        namespace = if own.is_empty() { cx.namespace().await? } else { own };
        if let Some(asked) = cx.asked_namespace().filter(|asked| *asked != namespace) {
            return Err(fail!(
                "the namespace from the provided object \"{namespace}\" does not match the namespace \"{asked}\". You must pass '--namespace={namespace}' to perform this operation."
            ));
        }
        crate::cx::dig_mut(&mut object, "metadata.namespace").clone_from(&Value::from(namespace.as_str()));
    }
    Ok(Info { resource, namespace, name, object, source: source.into() })
}

/// Reads `TYPE[,TYPE] [NAME...]` and `TYPE/NAME...`.
pub async fn parse(cx: &Cx, args: &[String], all: bool) -> Result<Vec<Asked>> {
    let discovery = cx.discovery().await?;
    let Some(first) = args.first() else {
        let command = cx.command.replace("knarr ", "");
        return Err(Error::Raw(format!(
            "error: You must specify the type of resource to {command}. Use \"knarr api-resources\" for a complete list of supported resources."
        )));
    };
    if args.iter().any(|arg| arg.contains('/')) {
        let mut asked = Vec::new();
        for arg in args {
            let Some((kind, name)) = arg.split_once('/') else {
                return Err(fail!(
                    "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'"
                ));
            };
            if kind.is_empty() || name.is_empty() || name.contains('/') {
                return Err(fail!("arguments in resource/name form may not have more than one slash"));
            }
            let resource = discovery.find(kind)?;
            asked.push(Asked { resource, name: Some(name.into()) });
        }
        return Ok(asked);
    }
    let mut resources = Vec::new();
    for word in first.split(',').filter(|word| !word.is_empty()) {
        match discovery.category(word) {
            members if !members.is_empty() => resources.extend(members),
            _ => resources.push(discovery.find(word)?),
        }
    }
    let names = &args[1..];
    if names.is_empty() {
        if !all {
            return Err(fail!("resource(s) were provided, but no name was specified"));
        }
        return Ok(resources.into_iter().map(|resource| Asked { resource, name: None }).collect());
    }
    let each = |resource: Arc<Resource>| {
        names.iter().map(move |name| Asked { resource: resource.clone(), name: Some(name.clone()) })
    };
    Ok(resources.into_iter().flat_map(each).collect())
}
