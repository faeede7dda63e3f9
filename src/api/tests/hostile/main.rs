//! Input that nobody in his right mind sends: nothing panics, nothing takes for ever, and what is taken is taken as
//! something that can be stored, read and shown again.
//!
//! Each property is tried with a few hundred inputs; `PROPTEST_CASES=1000000` has it try as many for as long as wanted.

mod choices;
mod expressions;
mod objects;
mod patches;
mod texts;
