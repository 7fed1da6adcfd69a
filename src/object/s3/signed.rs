//! Payloads under the signature, where nothing else guards them on their way.
//!
//! Over TLS, and to this machine, a payload goes unsigned: the store compares it with a CRC. That is no proof against
//! somebody on the way, who can give other content the same CRC. So over plain HTTP the signature covers its SHA-256.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::ConfigBag;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use super::S3Store;
use crate::error::{Error, Result};
use crate::object::Payload;

/// Has the SDK sign a call with this SHA-256 of its payload (in hex), if there is one. By itself it signs none that
/// comes as a stream.
#[derive(Debug)]
pub(super) struct Signed(pub(super) Option<String>);

#[dyn_dispatch_hint]
impl Intercept for Signed {
    fn name(&self) -> &'static str {
        "SignedPayload"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(sha256) = &self.0 {
            let signed = PayloadSigningOverride::Precomputed(sha256.clone());
            config.interceptor_state().store_put(signed);
        }
        Ok(())
    }
}

impl S3Store {
    /// The SHA-256 that a call is to be signed with, in hex; `None` where it need not.
    pub(super) async fn sha256_to_sign(&self, payload: &Payload) -> Result<Option<String>> {
        if !self.is_exposed {
            return Ok(None);
        }
        let chunks = Arc::clone(&payload.chunks);
        let digest = tokio::task::spawn_blocking(move || {
            let mut digest = Context::new(&SHA256);
            chunks.iter().for_each(|chunk| digest.update(chunk));
            digest.finish()
        });
        let digest = digest
            .await
            .map_err(|error| Error::internal("compute a SHA-256").with_source(error))?;
        Ok(Some(hex::encode(digest)))
    }
}
