//! The machine against a toy file system: random acts by two sessions and three users, compared whole after every step.
//!
//! `toy` is the reference, written to be obviously right and slow; `steps` draws the acts; `world` runs them on both
//! and compares. Every record is applied as the shell would; every act is sent twice; the state is checked after each.

mod cases;
mod policies;
mod steps;
mod toy;
mod world;

use proptest::prelude::*;

proptest! {
    // A quarter of the usual number, as each walk checks whole states many times; PROPTEST_CASES=20000 walks longer.
    #![proptest_config({
        let usual = ProptestConfig::default();
        ProptestConfig { cases: usual.cases.div_ceil(4), ..usual }
    })]

    #[test]
    fn names_and_attributes_behave_as_in_the_toy(steps in proptest::collection::vec(steps::on_names(), 1..60)) {
        world::run(&steps);
    }

    #[test]
    fn maps_behave_as_in_the_toy(steps in proptest::collection::vec(steps::on_data(), 1..80)) {
        world::run(&steps);
    }
}
