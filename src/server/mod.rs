//! The listeners: webhooks for providers, admin for the operator.
//!
//! Both run on one accept loop ([`listen`]) with limits on time, size and number, and each has its
//! own port: what the public can reach never serves the operator's routes.

pub mod admin;
pub mod keys;
pub mod listen;
pub mod webhook;

mod admin_state;
mod api;
mod body;
mod connections;
mod health;
mod live;
mod rate;
mod refusal;
mod rejection;
mod source;
mod streak;
mod told;
