//! The formats of recordings, read and checked: HLS playlists, ZIP archives, and what a whole file looks like. Pure.

pub mod check;
pub mod hls;
pub mod zip;
