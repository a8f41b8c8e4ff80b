//! The machine against a toy file system: random acts by two sessions and three users, compared whole after every step.
//!
//! `toy` is the reference, written to be obviously right and slow; `steps` draws the acts; `world` runs them on both
//! and compares. Every record is applied as the shell would; every act is sent twice; the state is checked after each.

mod cases;
mod steps;
mod toy;
mod world;

use proptest::prelude::*;

proptest! {
    // PROPTEST_CASES=5000 walks longer.
    #[test]
    fn names_and_attributes_behave_as_in_the_toy(steps in proptest::collection::vec(steps::on_names(), 1..60)) {
        world::run(&steps);
    }

    #[test]
    fn maps_behave_as_in_the_toy(steps in proptest::collection::vec(steps::on_data(), 1..80)) {
        world::run(&steps);
    }
}
