//! The cases that every engine of the store passes.
//!
//! They are compiled twice: with the integration tests, over SQLite in a file and the public API, and with the unit tests of
//! `store`, over the engine in memory, which only those can see. The engine is `crate::store::EngineUnderTest` in both.
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the cases stand in modules of tests"
)]

pub mod build;

mod claims;
mod cures;
mod fresh;
mod intake;
mod leases;
mod lifecycle;
mod operator;
mod random;
mod redelivered;
mod retention;
mod sealing;
mod suspects;
mod walks;

use std::sync::Arc;

use async_trait::async_trait;
use recording_harvester::store::JobStore;

/// One back end with a database of its own, which can be opened several times.
#[async_trait]
pub trait Backend: Send + Sync {
    async fn open(&self) -> Arc<dyn JobStore>;
}

/// Makes a test of each case; a case is `async fn(&dyn Backend)`.
macro_rules! on_every_backend {
    ($($case:ident),+ $(,)?) => {
        mod on_the_engine {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&crate::store::EngineUnderTest::new()).await;
            })+
        }
    };
}
use on_every_backend;
