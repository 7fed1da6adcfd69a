//! How servers are known: by the system's certificates, read once for all HTTP clients of the process.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_platform_verifier::BuilderVerifierExt as _;

/// How a client meets servers over TLS, speaking one of the protocols `alpn`, the first of them best.
///
/// # Errors
/// When the system's certificates can't be used.
pub fn client_config(alpn: &[&str]) -> Result<ClientConfig, rustls::Error> {
    static MADE: OnceLock<ClientConfig> = OnceLock::new();
    let mut config = match MADE.get() {
        Some(made) => made.clone(),
        None => {
            let made = make()?;
            MADE.get_or_init(|| made).clone()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| (*name).into()).collect();
    Ok(config)
}

fn make() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(config)
}
