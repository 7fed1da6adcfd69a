//! `harvester demo`: the whole journey on loopback, with made-up events of every provider.

mod api;
pub mod events;
pub mod judge;
pub mod media;
pub mod origin;
pub mod presign;
