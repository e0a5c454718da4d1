//! What a call can cost beside its arguments, and how big its result can be.

use super::{Estimator, Known, Place, Range};
use crate::{
    ast::{Expr, Kind},
    library::{Cost, Row},
    types::Type,
    value::Value,
};

const TEXT: f64 = 0.1;
const PATTERN: f64 = 0.25;
/// What a call that makes a list costs whatever is in it.
const NEW_LIST: Range = Range::fixed(11);

impl<'p, 'd> Estimator<'p, 'd> {
    pub(super) fn function(&self, row: &Row, nodes: &[&'p Expr], args: &[Known<'d>]) -> Known<'d> {
        let size = |at: usize| args.get(at).map_or(Range::UNKNOWN, Known::size);
        let plain = |cost: Range| Known::of(cost);
        let sized = |cost: Range, size: Range| Known { size: Some(size), ..Known::of(cost) };
        let text = |size: Range, times: u64| size.scaled(TEXT * times as f64);
        let first = size(0);
        match row.cost {
            Cost::Fixed(cost) => plain(Range::fixed(cost)),
            // Upstream looks at the target here, which functions have not: all of them but `url` count as one.
            Cost::Text(times) if !row.member && row.name == "url" => sized(text(first, times), first),
            Cost::Text(_) if !row.member => plain(Range::ONE),
            Cost::Text(times) => plain(text(size(1), times)),
            Cost::SameText => sized(text(first, 1), first),
            Cost::Replace => sized(text(first, 2), replaced(first, size(1), size(2))),
            Cost::Split => {
                let most = nodes.get(2).and_then(|node| number(node)).unwrap_or(first.max);
                sized(text(first, 2), Range { min: 0, max: most })
            }
            Cost::Join => {
                let gaps = Range { min: first.min.saturating_sub(1), max: first.max.saturating_sub(1) };
                let parts = first.times(self.element(nodes[0], &args[0]));
                let all = if args.len() > 1 { parts.plus(size(1).times(gaps)) } else { parts };
                sized(text(all, 1), all)
            }
            Cost::Visit => match self.ty(nodes[0]) {
                Type::List(element) => {
                    let has_text = matches!(**element, Type::String | Type::Bytes);
                    let walked = if has_text { text(self.element(nodes[0], &args[0]), 1) } else { Range::ZERO };
                    plain(first.times(Range::ONE.plus(walked)))
                }
                _ => plain(text(first, 1)),
            },
            Cost::Regex if !row.member => plain(Range::ONE),
            Cost::Regex => {
                let cost = text(first.plus(Range::ONE), 1).times(size(1).scaled(PATTERN));
                if row.name == "matches" { plain(cost) } else { sized(cost, Range { min: 0, max: first.max }) }
            }
            Cost::Contains => plain(text(first, 1).times(text(size(1), 1))),
            Cost::InList => plain(size(1)),
            Cost::Equality => plain(self.equality(nodes, first, size(1))),
            Cost::Concat => {
                let both = first.plus(size(1));
                sized(text(both, 1), both)
            }
            Cost::ConcatLists => {
                let element = args[0].element.zip(args[1].element).map(|(a, b)| a.or(b));
                Known { element, ..sized(Range::ONE, first.plus(size(1))) }
            }
            Cost::ToBytes => sized(text(first, 1), Range { max: first.max.saturating_mul(4), ..first }),
            Cost::FromBytes => sized(text(first, 1), Range { min: first.min / 4, ..first }),
            Cost::Quote => {
                let longer = |size: u64, times: u64| size.saturating_mul(times).saturating_add(2);
                sized(text(first, 1), Range { min: longer(first.min, 1), max: longer(first.max, 2) })
            }
            Cost::Format => plain(text(first, 1)),
            Cost::Validate => plain(text(size(1), 1).scaled(128.0 * PATTERN)),
            Cost::ContainsIp(parsed) => plain(ADDRESSES.scaled(2.0 * TEXT).plus(parse(parsed, size(1)))),
            Cost::ContainsCidr(parsed) => {
                let masked = ADDRESSES.scaled(2.0 * TEXT).plus(ADDRESSES.scaled(TEXT)).plus(Range::ONE);
                plain(masked.plus(parse(parsed, size(1))))
            }
            Cost::Selector => {
                let length = size(1);
                plain(Range::fixed(10).plus(text(length, 1)).plus(length.scaled(0.5).scaled(50.0)))
            }
            Cost::NewList => {
                let made = made(row.name, nodes, first);
                sized(made.plus(NEW_LIST), made)
            }
            Cost::Flatten => {
                let depth = if args.len() > 1 { number(nodes[1]).unwrap_or(u64::MAX) } else { 1 };
                sized(first.times(Range::fixed(depth)).plus(NEW_LIST), first.times(Range::fixed(depth)))
            }
            Cost::SelfCompare(at) => {
                let has_text = matches!(self.ty(nodes[at]), Type::List(element) if matches!(**element, Type::String | Type::Bytes));
                let compared = size(at).times(size(at)).scaled(if has_text { 2.0 + TEXT } else { 2.0 });
                Known { element: args[0].element, ..sized(compared.plus(NEW_LIST), first) }
            }
            Cost::Sets(times) => plain(first.times(size(1)).times(Range::fixed(times)).plus(Range::ONE)),
        }
    }

    /// How big the elements of a list are: as its schema says.
    fn element(&self, list: &Expr, known: &Known<'d>) -> Range {
        let declared = known.place.and_then(Place::element).map(Place::size);
        let by_type = || match self.ty(list) {
            Type::List(element) if element.is_scalar() => Some(Range::ONE),
            _ => None,
        };
        declared.or_else(by_type).unwrap_or(Range::UNKNOWN)
    }

    fn equality(&self, nodes: &[&'p Expr], left: Range, right: Range) -> Range {
        if matches!(nodes.first().map(|node| self.ty(node)), Some(Type::Opaque(_))) {
            return Range::ONE;
        }
        let most = left.max.min(right.max);
        Range { min: u64::from(most > 0), max: most }.scaled(TEXT)
    }
}

/// In bytes, of either kind.
const ADDRESSES: Range = Range { min: 4, max: 16 };

fn parse(parsed: bool, size: Range) -> Range {
    if parsed { size.scaled(TEXT) } else { Range::ZERO }
}

fn number(node: &Expr) -> Option<u64> {
    match node.kind {
        Kind::Literal(Value::Int(value)) => Some(u64::try_from(value).unwrap_or(0)),
        _ => None,
    }
}

fn made(name: &str, nodes: &[&Expr], first: Range) -> Range {
    let at = |at: usize| nodes.get(at).and_then(|node| number(node));
    match name {
        "lists.range" => Range::fixed(at(0).unwrap_or(u64::MAX)),
        "slice" => match (at(1), at(2)) {
            (Some(from), Some(to)) => Range::fixed(to.saturating_sub(from)),
            _ => Range { min: 0, max: first.max },
        },
        _ => first,
    }
}

/// The shortest and the longest that replacing parts of a string can make of it.
fn replaced(text: Range, old: Range, new: Range) -> Range {
    let divided = |size: u64, by: u64| size.div_ceil(by);
    let (most, kept_most) = match () {
        () if old.min == 0 => (text.max.saturating_add(1), text.max),
        () if new.max <= old.min => (0, text.max),
        () => (divided(text.max, old.min), 0),
    };
    let (least, kept_least) = match () {
        () if old.max == 0 => (text.min.saturating_add(1), text.min),
        () if old.max <= new.min => (0, text.min),
        () => (divided(text.min, old.max), 0),
    };
    Range { min: least, max: most }.times(new).plus(Range { min: kept_least, max: kept_most })
}
