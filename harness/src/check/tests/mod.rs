//! Tests of the checks on hand-made histories, one file a property.
//!
//! A verdict that is wrong in either direction is the worst bug this program can have, so each test
//! names the wrong verdict that it is there to catch.

mod bugs;
mod evidence;
mod exclusion;
mod gaps;
mod integrity;
mod liveness;
mod obvious;
mod reaction;
mod speed;
mod vacuity;
mod visibility;
