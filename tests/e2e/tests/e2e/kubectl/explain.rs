//! `kubectl explain` of a definition's fields, from both of the documents it can read, and of a built-in's.

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, eventually};

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_explain_of_a_definition", explain)]
}

const DEFINITION: &str = include_str!("ships.yaml");

const SPEC: &str = "GROUP:      sea.example.com
KIND:       Ship
VERSION:    v1

FIELD: spec <Object>


DESCRIPTION:
    What the owner wants.
    
FIELDS:
  captain\t<string> -required-
    Who commands her. The name is as in the register, which may be long: this
    line is wrapped.

  cargo\t<map[string]string>
    What she carries.

  crew\t<[]Object>
    Who works on her.

  kind\t<string>
  enum: brig, knarr, yawl
    How she is rigged.

  ports\t<[][]string>
    <no description>

  sails\t<Object>
    <no description>


";

const RECURSIVE: &str = "  spec\t<Object> -required-
    captain\t<string> -required-
    cargo\t<map[string]string>
    crew\t<[]Object>
      name\t<string> -required-
      rank\t<integer>
    kind\t<string>
    enum: brig, knarr, yawl
    ports\t<[][]string>
    sails\t<Object>
  status\t<Object>
    afloat\t<boolean>
    depth\t<number>
";

const KIND: &str = "GROUP:      sea.example.com
KIND:       Ship
VERSION:    v1

FIELD: kind <string>
ENUM:
    brig
    knarr
    yawl

DESCRIPTION:
    How she is rigged.
    

";

/// A built-in's field, whose values upstream lists, and nothing else of them.
const RESTART_POLICY: &str = "KIND:       Pod
VERSION:    v1

FIELD: restartPolicy <string>
ENUM:
    Always
    Never
    OnFailure

DESCRIPTION:
    Restart policy for all containers within the pod. One of Always, OnFailure,
    Never. In some contexts, only a subset of those values may be permitted.
    Default to Always. More info:
    https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
    
    Possible enum values:
     - `\"Always\"`
     - `\"Never\"`
     - `\"OnFailure\"`
    

";

const SECOND: &str = "KIND:     Ship
VERSION:  sea.example.com/v1

RESOURCE: spec <Object>

DESCRIPTION:
     What the owner wants.

FIELDS:
   captain\t<string>
   cargo\t<map[string]string>
   crew\t<[]Object>
      name\t<string>
      rank\t<integer>
   kind\t<string>
   ports\t<[][]string>
   sails\t<>
";

fn explain(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "explain")?;
    kubectl.feed("apply -f -", DEFINITION)?;
    kubectl.ask("wait crd/ships.sea.example.com --for=condition=Established --timeout=20s")?;
    // Documents follow definitions a moment later.
    eventually("the definition is explained", || kubectl.ask("explain ship"))?;
    eventually("in the older document", || kubectl.ask("explain ship --output plaintext-openapiv2"))?;
    kubectl.say(&[
        ("explain pod.spec.restartPolicy", RESTART_POLICY),
        ("explain ships.spec", SPEC),
        ("explain ship.spec.kind", KIND),
        ("explain ship.spec.kind --api-version=sea.example.com/v1", KIND),
        ("explain ship.spec --recursive --output plaintext-openapiv2", SECOND),
    ])?;
    let all = kubectl.ask("explain ship --recursive")?;
    let head =
        "GROUP:      sea.example.com\nKIND:       Ship\nVERSION:    v1\n\nDESCRIPTION:\n    A Ship carries things.\n";
    ensure!(all.starts_with(head) && all.contains(RECURSIVE), "{all}");
    ensure!(all.contains("    ownerReferences\t<[]OwnerReference>\n      apiVersion\t<string> -required-\n"), "{all}");
    kubectl.refuse(&[
        (
            "explain ship.spec.nothing",
            "GROUP:      sea.example.com\nKIND:       Ship\nVERSION:    v1\n\nerror: field \"nothing\" does not exist",
        ),
        (
            "explain ship --api-version=sea.example.com/v2",
            "error: couldn't find resource for \"sea.example.com/v2, Resource=ships\"",
        ),
    ])?;
    kubectl.ask("delete crd ships.sea.example.com --timeout=30s")?;
    eventually("nothing is left to explain", || {
        let said = kubectl.run("explain ship", "")?;
        ensure!(
            said.stderr == "error: couldn't find resource for \"sea.example.com/v1, Resource=ships\"\n"
                || said.stderr == "error: the server doesn't have a resource type \"ship\"\n",
            "{}",
            said.all()
        );
        Ok(())
    })?;
    kubectl.end()
}
