//! The kinds of object store that the harvester has to do with.

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

impl StoreKind {
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
