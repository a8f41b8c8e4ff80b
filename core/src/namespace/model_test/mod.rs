//! The machine against a toy file system: random acts by two sessions and three users, compared whole after every step.
//!
//! `toy` is the reference, written to be obviously right and slow; `steps` draws the acts; `world` runs them on both
//! and compares. Every record is applied as the shell would; every act is sent twice; the state is checked after each.

mod cases;
mod policies;
mod steps;
mod toy;
mod world;

use crate::ids::InodeId;
use crate::namespace::attr::AttrChanges;
use crate::namespace::name::Name;
use crate::namespace::request::{Credentials, OperationKind};
use proptest::prelude::*;
use steps::{PolicyAct, Step};

/// The policy asks for fewer copies than a chunk has when it is reconciled.
#[test]
fn a_set_larger_than_wanted_is_not_trimmed_by_its_repair() {
    let (session, who, changes) = (1, Credentials::default(), AttrChanges::default());
    let (root, file) = (InodeId(0), InodeId(1));
    let name = Name::new(b"a".to_vec()).unwrap();
    let create = OperationKind::Create { parent: root, name, mode: 0o644, exclusive: false };
    let extents = vec![(0, 1)];
    world::run(&[
        Step::Act { session, who: who.clone(), operation: create },
        Step::Write { session, who, file, extents, modified: false, release: true, changes },
        Step::Policy(PolicyAct::Change { policy: 0, replicas: 1, minimum: None }),
        Step::Overwrite { session, file },
        Step::EndSession(session),
        Step::Policy(PolicyAct::Walk(1)),
        Step::Reconcile(0),
    ]);
}

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
