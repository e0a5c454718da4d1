//! The commands beside `up`: each in a file of its own.

pub mod backup;
pub mod check;
pub mod cluster;
pub mod down;
pub mod image;
pub mod reset;
pub mod restore;
pub mod status;
pub mod token;
