//! How fast what the metrics call for is followed.
//! (<https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#configurable-scaling-behavior>)

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// As long as any policy may look back.
const LONGEST_PERIOD: SignedDuration = SignedDuration::from_secs(1800);
/// As long as any window may be.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_secs(3600);
/// How long fewer pods must have been enough, where nothing else is said.
const DOWNSCALE_STABILIZATION_S: i32 = 300;

/// What was recommended and done before. It is in memory only: after a restart nothing is known of the past, and the
/// first recommendation is the number of pods there is.
#[derive(Clone, Debug, Default)]
pub struct History {
    recommendations: Vec<(Timestamp, i32)>,
    /// By how many pods the target was changed, always positive.
    ups: Vec<(Timestamp, i32)>,
    downs: Vec<(Timestamp, i32)>,
}

/// The limits of one autoscaler.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    pub min: i32,
    pub max: i32,
    pub behavior: Option<&'a HorizontalPodAutoscalerBehavior>,
}

/// A reason and its message.
pub type Why = (&'static str, &'static str);

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub replicas: i32,
    pub able_to_scale: Why,
    pub is_limited: bool,
    pub scaling_limited: Why,
}

const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const TOO_FEW: Why = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Why = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Why = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Why =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");

impl History {
    /// Remembers the number of pods that was found at first, so that nothing is taken away before its time.
    pub fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// What becomes of a recommendation now.
    pub fn decide(&mut self, limits: Limits<'_>, current: i32, wanted: i32, now: Timestamp) -> Decision {
        let (stabilized, why) = match limits.behavior {
            None => self.highest_recent(wanted, now),
            Some(behavior) => self.stabilize(behavior, current, wanted, now),
        };
        self.recommendations.retain(|(at, _)| *at + LONGEST_WINDOW > now);
        self.recommendations.push((now, wanted));
        let able_to_scale = if stabilized == wanted { READY } else { why };
        let (replicas, scaling_limited) = match limits.behavior {
            None => bound(limits, current, stabilized),
            Some(behavior) => self.bound_rate(limits, behavior, current, stabilized, now),
        };
        Decision { replicas, able_to_scale, is_limited: replicas != stabilized, scaling_limited }
    }

    /// Remembers a change of the target that was made.
    pub fn scaled(&mut self, from: i32, to: i32, now: Timestamp) {
        for events in [&mut self.ups, &mut self.downs] {
            events.retain(|(at, _)| *at + LONGEST_PERIOD > now);
        }
        let events = if to > from { &mut self.ups } else { &mut self.downs };
        events.push((now, (to - from).abs()));
    }

    fn highest_recent(&self, wanted: i32, now: Timestamp) -> (i32, Why) {
        let since = now - SignedDuration::from_secs(DOWNSCALE_STABILIZATION_S.into());
        let recent = self.recommendations.iter().filter(|(at, _)| *at > since).map(|(_, replicas)| *replicas);
        (recent.fold(wanted, i32::max), DOWN_STABILIZED)
    }

    /// Moves only as far as all recommendations of the window agree.
    fn stabilize(
        &self,
        behavior: &HorizontalPodAutoscalerBehavior,
        current: i32,
        wanted: i32,
        now: Timestamp,
    ) -> (i32, Why) {
        let since = |rules: &Option<HPAScalingRules>, default: i32| {
            let seconds = rules.as_ref().and_then(|rules| rules.stabilization_window_seconds).unwrap_or(default);
            now - SignedDuration::from_secs(seconds.into())
        };
        let recent = |since: Timestamp| {
            self.recommendations.iter().filter(move |(at, _)| *at > since).map(|(_, replicas)| *replicas)
        };
        let lowest = recent(since(&behavior.scale_up, 0)).fold(wanted, i32::min);
        let highest = recent(since(&behavior.scale_down, DOWNSCALE_STABILIZATION_S)).fold(wanted, i32::max);
        let why = if wanted >= current { UP_STABILIZED } else { DOWN_STABILIZED };
        (current.max(lowest).min(highest), why)
    }

    fn bound_rate(
        &self,
        limits: Limits<'_>,
        behavior: &HorizontalPodAutoscalerBehavior,
        current: i32,
        wanted: i32,
        now: Timestamp,
    ) -> (i32, Why) {
        if wanted > current {
            let rate = self.up_limit(behavior.scale_up.as_ref(), current, now).max(current);
            let (most, why) = if limits.max > rate { (rate, UP_LIMIT) } else { (limits.max, TOO_MANY) };
            if wanted > most {
                return (most, why);
            }
        } else if wanted < current {
            let rate = self.down_limit(behavior.scale_down.as_ref(), current, now).min(current);
            let (least, why) = if limits.min < rate { (rate, DOWN_LIMIT) } else { (limits.min, TOO_FEW) };
            if wanted < least {
                return (least, why);
            }
        }
        (wanted, WITHIN)
    }

    /// The number of pods when a policy's period began.
    fn at_start_of(&self, policy: &HPAScalingPolicy, current: i32, now: Timestamp) -> i32 {
        let since = now - SignedDuration::from_secs(policy.period_seconds.into());
        let sum = |events: &[(Timestamp, i32)]| -> i32 {
            events.iter().filter(|(at, _)| *at > since).map(|(_, change)| *change).sum()
        };
        current - sum(&self.ups) + sum(&self.downs)
    }

    fn up_limit(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let defaults = [policy("Pods", 4), policy("Percent", 100)];
        let (select, policies) = choice(rules, &defaults);
        let limits = policies.iter().map(|policy| {
            let start = self.at_start_of(policy, current, now);
            match policy.type_.as_str() {
                "Pods" => start.saturating_add(policy.value),
                _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
            }
        });
        match select {
            "Disabled" => current,
            "Min" => limits.min().unwrap_or(current),
            _ => limits.max().unwrap_or(current),
        }
    }

    fn down_limit(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let defaults = [policy("Percent", 100)];
        let (select, policies) = choice(rules, &defaults);
        let limits = policies.iter().map(|policy| {
            let start = self.at_start_of(policy, current, now);
            match policy.type_.as_str() {
                "Pods" => start.saturating_sub(policy.value),
                _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            }
        });
        match select {
            "Disabled" => current,
            // The least change leaves the most pods.
            "Min" => limits.max().unwrap_or(current),
            _ => limits.min().unwrap_or(current),
        }
    }
}

/// As the API server fills in what is not said.
fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: kind.into(), value, period_seconds: 15 }
}

fn choice<'a>(
    rules: Option<&'a HPAScalingRules>,
    defaults: &'a [HPAScalingPolicy],
) -> (&'a str, &'a [HPAScalingPolicy]) {
    let select = rules.and_then(|rules| rules.select_policy.as_deref()).unwrap_or("Max");
    let policies = rules.and_then(|rules| rules.policies.as_deref()).filter(|policies| !policies.is_empty());
    (select, policies.unwrap_or(defaults))
}

/// Without a behaviour: twice as many at most, or four.
fn bound(limits: Limits<'_>, current: i32, wanted: i32) -> (i32, Why) {
    let rate = current.saturating_mul(2).max(4);
    let (most, why) = if limits.max > rate { (rate, UP_LIMIT) } else { (limits.max, TOO_MANY) };
    match wanted {
        few if few < limits.min => (limits.min, TOO_FEW),
        many if many > most => (most, why),
        _ => (wanted, WITHIN),
    }
}
