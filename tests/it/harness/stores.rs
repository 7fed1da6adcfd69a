//! The kinds of object store that the harvester has to do with.

use recording_harvester::object::ObjectStore;
use recording_harvester::object::embedded::{Abilities, WriteConditionSupport};

/// What a store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// All that S3 does.
    Full,
    /// It knows no CRC64NVME.
    NoChecksums,
    /// It answers 501 to a condition on a write.
    NoConditions,
    /// Neither of the two.
    Neither,
    /// It takes conditions and does not keep them.
    IgnoresConditions,
    /// It does that, and knows no CRC64NVME.
    IgnoresConditionsNoChecksums,
}

/// Names the kind of store on which the tests run that choose none; [`StoreKind::Full`] when it is not set.
const VARIABLE: &str = "TEST_STORE_KIND";

/// Its values.
const NAMES: [(&str, StoreKind); 4] = [
    ("full", StoreKind::Full),
    ("no-checksums", StoreKind::NoChecksums),
    ("no-conditions", StoreKind::NoConditions),
    ("neither", StoreKind::Neither),
];

impl StoreKind {
    /// The kind for every test that chooses none: what `TEST_STORE_KIND` names, else a store that does all.
    pub fn of_this_run() -> StoreKind {
        match std::env::var(VARIABLE) {
            Err(std::env::VarError::NotPresent) => StoreKind::Full,
            Err(error) => panic!("{VARIABLE}: {error}"),
            Ok(name) => StoreKind::named(&name),
        }
    }

    fn named(name: &str) -> StoreKind {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        match found {
            Some((_, kind)) => *kind,
            None => panic!(
                "{VARIABLE} is {name:?}, and can be {:?}",
                NAMES.map(|(known, _)| known)
            ),
        }
    }

    /// Lets a client find out what the store lacks, as a worker does at its start. Of a store that does all the tests'
    /// clients know nothing, so that they look before they write.
    pub async fn make_known(self, store: &dyn ObjectStore) {
        if self != StoreKind::Full {
            store.probe(".harvester-probe").await.unwrap();
        }
    }

    /// Whether it tells the CRC64NVME of what it has.
    pub fn tells_checksums(self) -> bool {
        self.abilities().checksums
    }

    /// Whether it keeps the conditions of writes.
    pub fn keeps_conditions(self) -> bool {
        self.abilities().conditions == WriteConditionSupport::Kept
    }

    pub fn abilities(self) -> Abilities {
        use StoreKind::*;
        Abilities {
            checksums: matches!(self, Full | NoConditions | IgnoresConditions),
            conditions: match self {
                Full | NoChecksums => WriteConditionSupport::Kept,
                NoConditions | Neither => WriteConditionSupport::Refused,
                IgnoresConditions | IgnoresConditionsNoChecksums => WriteConditionSupport::Ignored,
            },
        }
    }
}

/// Makes a test for each kind of store out of one scenario: a module of the scenario's name.
macro_rules! on_every_store {
    ($($(#[$meta:meta])* async fn $name:ident($kind:ident: StoreKind) $body:block)*) => {
        $(
            $(#[$meta])*
            mod $name {
                #[allow(unused_imports, reason = "a scenario need not use all of its file")]
                use super::*;
                use $crate::harness::stores::StoreKind;

                async fn scenario($kind: StoreKind) $body

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn on_a_full_store() {
                    scenario(StoreKind::Full).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn without_checksums() {
                    scenario(StoreKind::NoChecksums).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn without_conditions() {
                    scenario(StoreKind::NoConditions).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn with_neither() {
                    scenario(StoreKind::Neither).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn where_conditions_are_ignored() {
                    scenario(StoreKind::IgnoresConditions).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn where_conditions_are_ignored_and_there_are_no_checksums() {
                    scenario(StoreKind::IgnoresConditionsNoChecksums).await;
                }
            }
        )*
    };
}
pub(crate) use on_every_store;

#[test]
fn the_tests_run_on_each_kind_of_store_that_has_a_name() {
    let steps = include_str!("../../../.ci/run");
    let others = NAMES.map(|(name, _)| name)[1..].join(" ");
    let each = format!("for kind in {others}; do");
    assert!(steps.contains(&each), "{each}");
    for (name, kind) in NAMES {
        assert_eq!(StoreKind::named(name), kind);
    }
}

#[test]
#[should_panic(expected = "no-checksum\", and can be [\"full\"")]
fn a_kind_that_nobody_knows_ends_the_run() {
    StoreKind::named("no-checksum");
}
