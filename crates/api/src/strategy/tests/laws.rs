//! What holds of the rules of every built-in kind, whatever object they meet.

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{print, protobuf::tests::generate::Generator, registry, schema};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Objects are of the right types and otherwise senseless: rules may refuse them, and must not fall over them.
    #[test]
    fn rules_take_any_object_of_their_kind(seed: u64) {
        let mut generator = Generator::new(seed);
        // What is served in another form than it is stored in is brought into that one first.
        for resource in registry::builtins().iter().filter(|resource| resource.same(resource.stored_as())) {
            let Some(ty) = schema::of(resource.group, resource.version, resource.kind) else { continue };
            let Some(mut object) = generator.modest_object(resource.gvk()) else { continue };
            prop_assert_eq!(schema::check(ty, &object), []);
            let mut known = object.clone();
            schema::prune(ty, &mut known);
            schema::prune(ty, &mut object);
            prop_assert_eq!(&known, &object, "pruning settles at once");

            let rules = of(resource);
            rules.default(&mut object);
            let mut again = object.clone();
            rules.default(&mut again);
            prop_assert_eq!(&again, &object, "defaults of {:?} settle at once", resource.gvk());
            prop_assert_eq!(schema::check(ty, &object), [], "defaults of {:?} have the right types", resource.gvk());

            let old = object.clone();
            rules.prepare_create(&mut object);
            rules.validate_create(&object);
            rules.warnings(&object);
            print::row(resource, &object, Timestamp::UNIX_EPOCH);
            for part in [Part::Main, Part::Subresource("status")] {
                let mut new = generator.modest_object(resource.gvk()).unwrap_or_default();
                rules.prepare_update(&mut new, &old, part);
                rules.validate_update(&new, &old, part);
            }
            // Whoever writes what is there changes nothing, generation included.
            let mut same = object.clone();
            rules.prepare_update(&mut same, &object, Part::Main);
            prop_assert_eq!(&same, &object, "an update of {:?} without a change", resource.gvk());
        }
    }
}
