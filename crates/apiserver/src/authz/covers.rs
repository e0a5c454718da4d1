use super::Rule;
use super::rule::{has, resource_matches, url_matches};

/// The parts of `wanted` that `owned` does not grant: what a user would gain by writing a role. Each part has
/// one verb and one resource or path, so that the answer names exactly what is missing.
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().flat_map(parts).filter(|part| !owned.iter().any(|rule| covers(rule, part))).collect()
}

fn parts(rule: &Rule) -> Vec<Rule> {
    let mut parts = Vec::new();
    for verb in &rule.verbs {
        let verbs = vec![verb.clone()];
        for url in &rule.non_resource_urls {
            parts.push(Rule { verbs: verbs.clone(), non_resource_urls: vec![url.clone()], ..Rule::default() });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let part = Rule {
                    verbs: verbs.clone(),
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    parts.push(part);
                    continue;
                }
                parts.extend(
                    rule.resource_names.iter().map(|name| Rule { resource_names: vec![name.clone()], ..part.clone() }),
                );
            }
        }
    }
    parts
}

fn covers(rule: &Rule, part: &Rule) -> bool {
    part.verbs.iter().all(|verb| has(&rule.verbs, verb))
        && part.api_groups.iter().all(|group| has(&rule.api_groups, group))
        && part.resources.iter().all(|resource| {
            let (r, s) = resource.split_once('/').unwrap_or((resource, ""));
            rule.resources.iter().any(|owned| owned == resource || resource_matches(owned, r, s))
        })
        && part.non_resource_urls.iter().all(|url| rule.non_resource_urls.iter().any(|owned| url_matches(owned, url)))
        && (rule.resource_names.is_empty()
            || (!part.resource_names.is_empty()
                && part.resource_names.iter().all(|name| rule.resource_names.contains(name))))
}
