//! Which requests what the cluster's users have configured is for, and in which version it sees their objects: shared by
//! webhooks and policies. What comes of a match it does not know.

mod authority;
mod criteria;
mod describe;
mod form;
mod rounds;
mod rule;
mod select;
mod subject;
mod view;

use self::rule::Asked;
pub(crate) use self::{
    criteria::Criteria,
    describe::describe,
    form::check_type,
    rounds::{Key, Rounds},
    rule::name_of,
    subject::{Form, Subject, kind},
    view::View,
};
