//! Comprehensions, as loops over an accumulator: what a turn costs, as often as there can be elements.

use super::{Estimator, Known, Place, Range};
use crate::{
    ast::{Comprehension, Fold},
    eval::{LIST, MAP},
    types::Type,
};

impl<'p, 'd> Estimator<'p, 'd> {
    pub(super) fn fold(&mut self, fold: &'p Comprehension) -> Known<'d> {
        let range = self.node(&fold.range);
        let is_map = matches!(self.ty(&fold.range), Type::Map(..));
        let key = Known { place: is_map.then_some(Place::Key), ..Known::of(Range::ONE) };
        let key = Known { size: key.place.map(Place::size), ..key };
        let place = range.place.and_then(Place::element);
        let size = range.element.or_else(|| place.map(Place::size));
        let value = Known { size, place, ..Known::of(Range::ONE) };
        let length = self.scopes.len();
        match &fold.var2 {
            None => self.scopes.push((&fold.var, if is_map { key } else { value })),
            Some(second) => {
                self.scopes.push((&fold.var, key));
                self.scopes.push((second, value));
            }
        }
        let filter = fold.filter.as_ref().map(|filter| self.node(filter));
        let body = self.node(&fold.body);
        self.scopes.truncate(length);
        let (before, turn, after) = turn(fold.fold, filter.map(|filter| filter.cost), body.cost);
        let turns = range.size();
        let cost = range.cost.plus(before).plus(turns.times(turn)).plus(after);
        let element = match fold.fold {
            Fold::List => Some(Range { min: 0, max: body.size().max }),
            Fold::Filter => Some(Range { min: 0, max: if is_map { 0 } else { value.size().max } }),
            _ => None,
        };
        let size = match fold.fold {
            Fold::All | Fold::Exists | Fold::ExistsOne => Range::ONE,
            _ => turns,
        };
        Known { size: Some(size), element, ..Known::of(cost) }
    }
}

/// What the accumulator costs at first, what a turn costs, and what the result does.
fn turn(fold: Fold, filter: Option<Range>, body: Range) -> (Range, Range, Range) {
    // What is only done where the condition holds; the accumulator is named otherwise.
    let if_holds = |condition: Range, done: Range| condition.plus(done.or(Range::ONE));
    let filtered = |done: Range| filter.map_or(done, |filter| if_holds(filter, done));
    let one = Range::ONE;
    let added = Range::fixed(LIST + 2);
    match fold {
        Fold::All => (Range::ZERO, Range { min: 3, max: body.max.saturating_add(3) }, one),
        Fold::Exists => (Range::ZERO, Range { min: 4, max: body.max.saturating_add(4) }, one),
        Fold::ExistsOne => (Range::ZERO, if_holds(body, Range::fixed(2)), Range::fixed(2)),
        Fold::List => (Range::fixed(LIST), filtered(body.plus(added)), one),
        Fold::Filter => (Range::fixed(LIST), if_holds(body, added.plus(one)), one),
        Fold::Map => (Range::fixed(MAP), filtered(body.plus(Range::fixed(3))), one),
        Fold::Entries => (Range::fixed(MAP), filtered(body.plus(Range::fixed(2))), one),
    }
}
