//! Recorded frames of a real relay and a real repository, against what other implementations made of them.

mod bitflip;
mod corpus;
mod recorded;
