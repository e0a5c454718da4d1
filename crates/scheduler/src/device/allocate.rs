//! Finds devices of one node for claims: every request gets as many as it wants, none is given twice, and what the
//! constraints say of them together holds. The first way that works is taken, as upstream takes it.

use k8s_openapi::api::resource::v1::{DeviceAttribute, DeviceConstraint};
use knarr_api::{
    device::{MAX_DEVICES, qualified},
    quantity::Quantity,
};

use super::{
    ask::{Amount, Ask, Choice},
    picture::Picture,
    pool::{Candidate, Pool, State, consumed},
};

/// Devices that are tried for one node at most. Which are alike is not known here, so that what cannot be done may take
/// for ever to be found out.
const MAX_TRIES: usize = 100_000;

/// A device for a request of a claim, all by their places in the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub claim: usize,
    pub request: usize,
    pub choice: usize,
    /// In the list of pools, and in the pool.
    pub device: (usize, usize),
}

/// `None` where it cannot be done with what is free. An error is something that is wrong with claims or devices.
pub fn allocate(asks: &[Ask], pools: &[Pool<'_>], picture: &Picture) -> Result<Option<Vec<Chosen>>, String> {
    let mut meant = Vec::new();
    for ask in asks {
        let mut requests = Vec::new();
        for request in &ask.requests {
            let choices = request.choices.iter().map(|choice| meant_by(ask, choice, pools));
            requests.push(choices.collect::<Result<Vec<_>, _>>()?);
        }
        meant.push(requests);
    }
    let mut search = Search { asks, pools, picture, meant, chosen: Vec::new(), tries: 0 };
    if search.request(0, 0)? {
        return Ok(Some(search.chosen));
    }
    match pools.iter().any(|pool| pool.state == State::Invalid) {
        true => Err("invalid resource pools were encountered".to_owned()),
        false => Ok(None),
    }
}

/// The devices that a request means, free or not.
fn meant_by(ask: &Ask, choice: &Choice, pools: &[Pool<'_>]) -> Result<Devices, String> {
    let mut meant = Vec::new();
    for (at, pool) in pools.iter().enumerate() {
        let trouble = match pool.state {
            State::Complete => None,
            State::Incomplete => Some("being updated"),
            State::Invalid => Some("invalid"),
        };
        if let Some(trouble) = trouble.filter(|_| choice.amount == Amount::All) {
            let (driver, name) = pool.id;
            return Err(format!(
                "claim {}, request {}: asks for all devices, but resource pool {driver}/{name} is currently {trouble}",
                ask.name(),
                choice.name
            ));
        }
        if pool.state == State::Invalid {
            continue;
        }
        for (index, candidate) in pool.devices.iter().enumerate() {
            if choice.means(candidate)? {
                meant.push((at, index));
            }
        }
    }
    Ok(meant)
}

/// By their places in the list of pools and in the pool.
type Devices = Vec<(usize, usize)>;

struct Search<'a> {
    asks: &'a [Ask],
    pools: &'a [Pool<'a>],
    picture: &'a Picture,
    /// By claim, request and choice.
    meant: Vec<Vec<Vec<Devices>>>,
    chosen: Vec<Chosen>,
    tries: usize,
}

impl Search<'_> {
    /// This request and all after it.
    fn request(&mut self, claim: usize, request: usize) -> Result<bool, String> {
        let Some(ask) = self.asks.get(claim) else { return Ok(true) };
        let Some(wanted) = ask.requests.get(request) else { return self.request(claim + 1, 0) };
        for (at, choice) in wanted.choices.iter().enumerate() {
            let meant = self.meant[claim][request][at].len();
            let amount = match choice.amount {
                Amount::All => meant,
                Amount::Exactly(count) => count,
            };
            let of_claim = self.chosen.iter().filter(|one| one.claim == claim).count();
            // All of nothing is not what anybody wants.
            if amount == 0 || amount > meant || of_claim + amount > MAX_DEVICES {
                continue;
            }
            if self.devices(claim, request, at, 0, amount)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// So many more devices for a request, from a place in its list on; the order in which it gets them means nothing.
    fn devices(
        &mut self,
        claim: usize,
        request: usize,
        choice: usize,
        from: usize,
        left: usize,
    ) -> Result<bool, String> {
        if left == 0 {
            return self.request(claim, request + 1);
        }
        let meant = self.meant[claim][request][choice].len();
        for at in from..=meant.saturating_sub(left) {
            self.tries += 1;
            if self.tries > MAX_TRIES {
                return Err("timed out trying to find devices for all claims".to_owned());
            }
            let device = self.meant[claim][request][choice][at];
            let next = Chosen { claim, request, choice, device };
            if !self.fits(next) {
                continue;
            }
            self.chosen.push(next);
            if self.devices(claim, request, choice, at + 1, left - 1)? {
                return Ok(true);
            }
            self.chosen.pop();
        }
        Ok(false)
    }

    fn fits(&self, next: Chosen) -> bool {
        let mut others = self.chosen.iter();
        let is_shared = self.choice(next).admin_access;
        let is_taken = others.any(|other| {
            let both_hold = !is_shared && !self.choice(*other).admin_access;
            other.device == next.device && (other.claim == next.claim || both_hold)
        });
        let is_free = is_shared || !self.picture.is_in_use(&self.candidate(next).id);
        let mut constraints = self.asks[next.claim].constraints.iter();
        !is_taken && is_free && (is_shared || self.leaves_enough(next)) && constraints.all(|one| self.holds(one, next))
    }

    /// Of what the devices of its pool share.
    fn leaves_enough(&self, next: Chosen) -> bool {
        let pool = &self.pools[next.device.0];
        let taken = |key: (&str, &str)| {
            let others = self.chosen.iter().filter(|other| other.device.0 == next.device.0);
            let others = others.filter(|other| !self.choice(**other).admin_access);
            let amounts = others.flat_map(|other| consumed(self.candidate(*other).device));
            amounts
                .filter(|(set, name, _)| (*set, *name) == key)
                .fold(Quantity::ZERO, |sum, (.., amount)| sum + amount.unwrap_or(Quantity::ZERO))
        };
        consumed(self.candidate(next).device).all(|(set, name, amount)| {
            let there = pool.counters.get(&(set, name));
            there.zip(amount).is_some_and(|(there, amount)| *there - taken((set, name)) >= amount)
        })
    }

    fn holds(&self, constraint: &DeviceConstraint, next: Chosen) -> bool {
        if !self.concerns(constraint, next) {
            return true;
        }
        let others = || {
            let others = self.chosen.iter().filter(|other| other.claim == next.claim);
            others.filter(|other| self.concerns(constraint, **other))
        };
        let value = |name: &str, of: Chosen| value(self.candidate(of), name);
        if let Some(name) = &constraint.match_attribute {
            let Some(own) = value(name, next) else { return false };
            return others().all(|other| value(name, *other) == Some(own.clone()));
        }
        let Some(name) = &constraint.distinct_attribute else { return false };
        let Some(own) = value(name, next) else { return false };
        others().all(|other| value(name, *other) != Some(own.clone()))
    }

    fn concerns(&self, constraint: &DeviceConstraint, one: Chosen) -> bool {
        let requests = constraint.requests.as_deref().unwrap_or_default();
        let request = &self.asks[one.claim].requests[one.request];
        requests.is_empty() || requests.iter().any(|name| *name == request.name || *name == self.choice(one).name)
    }

    fn choice(&self, of: Chosen) -> &Choice {
        &self.asks[of.claim].requests[of.request].choices[of.choice]
    }

    fn candidate(&self, of: Chosen) -> &Candidate<'_> {
        &self.pools[of.device.0].devices[of.device.1]
    }
}

/// What kind of value, and which.
fn value(candidate: &Candidate<'_>, name: &str) -> Option<(u8, String)> {
    let attributes = candidate.device.attributes.as_ref()?;
    let of_driver = || {
        let (domain, id) = qualified(name, &candidate.id.driver);
        attributes.get(id).filter(|_| domain == candidate.id.driver)
    };
    match attributes.get(name).or_else(of_driver)? {
        DeviceAttribute { string: Some(text), .. } => Some((0, text.clone())),
        DeviceAttribute { int: Some(number), .. } => Some((1, number.to_string())),
        DeviceAttribute { bool: Some(truth), .. } => Some((2, truth.to_string())),
        DeviceAttribute { version: Some(version), .. } => Some((3, version.clone())),
        _ => None,
    }
}
