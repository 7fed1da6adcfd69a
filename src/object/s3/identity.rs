//! The credentials that calls are signed with: kept, asked for again in good time, and never waited for without end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::identity::Identity;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::{Clock as _, SystemClock};

/// Credentials that live for less than this are not used any more: a request may take a while.
const MARGIN: Duration = Duration::from_secs(60);

/// Those that live for less than this are asked for anew, while the old ones are still used.
const AHEAD: Duration = Duration::from_secs(300);

/// A provider that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// After a failure the provider is left alone for so long.
const REST: Duration = Duration::from_secs(10);

/// Credentials of one provider. Clones share them.
#[derive(Clone)]
pub(super) struct CredentialCache(Arc<SharedCredentials>);

struct SharedCredentials {
    provider: SharedCredentialsProvider,
    kept: Mutex<Option<Identity>>,
    failed_at: Mutex<Option<Instant>>,
    /// One asks, the others wait for what it gets.
    turn: tokio::sync::Mutex<()>,
    /// The asking that nobody waits for.
    beside: Mutex<JoinSet<()>>,
}

impl CredentialCache {
    /// None yet.
    pub(super) fn of(provider: SharedCredentialsProvider) -> CredentialCache {
        CredentialCache(Arc::new(SharedCredentials {
            provider,
            kept: Mutex::default(),
            failed_at: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            beside: Mutex::default(),
        }))
    }

    /// Credentials that can be used now; `None` when they can't be had within ten seconds, which leaves the call to
    /// the SDK: it has its own way to get them, and says what is wrong.
    pub(super) async fn get(&self) -> Option<Identity> {
        if let Some(identity) = self.0.living_for(MARGIN) {
            if self.0.living_for(AHEAD).is_none() {
                self.ask_beside();
            }
            return Some(identity);
        }
        if self.0.has_failed_lately() {
            return None;
        }
        let asked = async {
            let _turn = self.0.turn.lock().await;
            match self.0.living_for(MARGIN) {
                Some(identity) => Some(identity),
                None => self.0.ask().await,
            }
        };
        let asked = tokio::time::timeout(LIMIT, asked).await;
        if asked.is_err() {
            tracing::warn!(
                "the provider of the bucket's credentials did not answer within {LIMIT:?}"
            );
            self.0.note_failure();
        }
        asked.ok().flatten()
    }

    /// Asks for new ones while the old ones are used.
    fn ask_beside(&self) {
        let mut beside = locked(&self.0.beside);
        while beside.try_join_next().is_some() {}
        if !beside.is_empty() || self.0.has_failed_lately() {
            return;
        }
        // Held weakly by nobody: the set ends with what it belongs to, so the task must not keep that alive.
        let shared = Arc::downgrade(&self.0);
        beside.spawn(async move {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            if tokio::time::timeout(LIMIT, shared.ask()).await.is_err() {
                shared.note_failure();
            }
        });
    }
}

impl SharedCredentials {
    fn living_for(&self, least: Duration) -> Option<Identity> {
        let until = SystemTime::from(SystemClock.now()) + least;
        let kept = locked(&self.kept).clone();
        kept.filter(|kept| kept.expiration().is_none_or(|expiry| expiry > until))
    }

    async fn ask(&self) -> Option<Identity> {
        match self.provider.provide_credentials().await {
            Ok(credentials) => {
                let fresh = Identity::from(credentials);
                *locked(&self.kept) = Some(fresh.clone());
                *locked(&self.failed_at) = None;
                Some(fresh)
            }
            Err(error) => {
                tracing::debug!(%error, "failed to get the bucket's credentials");
                self.note_failure();
                None
            }
        }
    }

    fn has_failed_lately(&self) -> bool {
        locked(&self.failed_at).is_some_and(|at| at.elapsed() < REST)
    }

    fn note_failure(&self) {
        *locked(&self.failed_at) = Some(Instant::now());
    }
}

/// What is behind these locks is whole at any time.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use aws_credential_types::Credentials;
    use aws_credential_types::provider::{ProvideCredentials, future};

    use super::*;

    /// Gives credentials that live for so long, in turn, and then hangs.
    #[derive(Debug)]
    struct Scripted(Mutex<VecDeque<u64>>);

    impl ProvideCredentials for Scripted {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                let next = locked(&self.0).pop_front();
                match next {
                    Some(seconds) => {
                        let expiry =
                            SystemTime::from(SystemClock.now()) + Duration::from_secs(seconds);
                        let key = format!("lives-{seconds}");
                        Ok(Credentials::new(key, "secret", None, Some(expiry), "test"))
                    }
                    None => std::future::pending().await,
                }
            })
        }
    }

    fn identities(script: &[u64]) -> CredentialCache {
        let scripted = Scripted(Mutex::new(script.iter().copied().collect()));
        CredentialCache::of(SharedCredentialsProvider::new(scripted))
    }

    async fn key(identities: &CredentialCache) -> Option<String> {
        let identity = identities.get().await?;
        let credentials = identity
            .data::<Credentials>()
            .expect("it is of credentials");
        Some(credentials.access_key_id().to_owned())
    }

    // R10, S17
    #[tokio::test(start_paused = true)]
    async fn a_provider_that_hangs_is_waited_for_ten_seconds_and_then_left_alone_for_a_while() {
        let hanging = identities(&[]);
        let began = Instant::now();
        assert_eq!(key(&hanging).await, None);
        assert_eq!(began.elapsed(), LIMIT);
        assert_eq!(key(&hanging).await, None);
        assert_eq!(began.elapsed(), LIMIT, "the next call does not wait");
        tokio::time::advance(REST).await;
        assert_eq!(key(&hanging).await, None);
        assert_eq!(began.elapsed(), LIMIT + REST + LIMIT);
    }

    // R10, S17
    #[tokio::test(start_paused = true)]
    async fn many_calls_wait_for_a_hanging_provider_together() {
        let hanging = identities(&[]);
        let began = Instant::now();
        let calls = std::iter::repeat_with(|| key(&hanging)).take(50);
        let keys = futures::future::join_all(calls).await;
        assert!(keys.iter().all(Option::is_none));
        assert_eq!(began.elapsed(), LIMIT);
    }

    // R10, S17
    #[tokio::test(start_paused = true)]
    async fn credentials_near_their_end_are_used_while_new_ones_are_asked_for() {
        let identities = identities(&[200, 3600]);
        assert_eq!(key(&identities).await.as_deref(), Some("lives-200"));
        assert_eq!(key(&identities).await.as_deref(), Some("lives-200"));
        while !locked(&identities.0.beside).is_empty() {
            while locked(&identities.0.beside).try_join_next().is_some() {}
            tokio::task::yield_now().await;
        }
        assert_eq!(key(&identities).await.as_deref(), Some("lives-3600"));
    }

    // R10, S17
    #[tokio::test(start_paused = true)]
    async fn a_refresh_that_hangs_keeps_nobody_waiting_while_the_old_credentials_live() {
        let identities = identities(&[200]);
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(key(&identities).await.as_deref(), Some("lives-200"));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
