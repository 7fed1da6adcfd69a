//! HLS playlists (RFC 8216 and its successor draft): read, resolved and rewritten as text.
//!
//! All of it is pure: text in, plain data or text out. What is not understood is kept as it is; what is
//! understood and wrong is refused with its line. Lines are read here and not by a crate, since a
//! playlist is rewritten by replacing the text of its URIs and nothing else: that takes the place of each
//! URI in its line, which typed tags do not keep.

mod attributes;
mod define;
mod join;
mod media;
mod names;
mod playlist;
mod range;
mod read;
mod tags;
mod timestamp;
mod uri;
mod vtt;
mod weight;

pub use crate::format::hls::attributes::quoted;
pub use crate::format::hls::define::Variables;
pub use crate::format::hls::join::{Follower, Reset};
pub use crate::format::hls::names::{extension_of, media_type, playlist_folder, resource_name};
pub use crate::format::hls::playlist::{
    Kind, Map, MediaSegment, Playlist, Reference, SegmentKey, SubRange, UriChange, UriRole,
};
pub use crate::format::hls::timestamp::first_timestamp;
pub use crate::format::hls::uri::without_secrets;
pub use crate::format::hls::vtt::join_webvtt;
pub use crate::format::hls::weight::Weight;

/// The largest playlist: a day of two-second segments with signed URLs fits.
pub const MAX_PLAYLIST_BYTES: usize = 32 * 1024 * 1024;

/// The longest line, also after its variables are put in.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// URIs that one playlist may name.
pub const MAX_REFERENCES: usize = 200_000;

/// Playlists that one multivariant playlist may name.
pub const MAX_PLAYLISTS: usize = 256;

/// Variables that one playlist may define.
pub const MAX_VARIABLES: usize = 256;

/// Bytes that the values of one playlist's variables may have: tokens and names are far below.
pub const MAX_VARIABLE_BYTES: usize = 256 * 1024;

/// Bytes that the URIs of one playlist may have once their variables are put in.
pub const MAX_EXPANDED_BYTES: usize = 32 * 1024 * 1024;

/// Bytes that the URIs of one playlist may have once they are resolved.
pub const MAX_URL_BYTES: usize = 64 * 1024 * 1024;

/// Attributes that one tag may have: each name is compared with all before it.
pub const MAX_ATTRIBUTES: usize = 256;

/// Key formats that may apply at once: each DRM system has one, and few are in use.
pub const MAX_KEY_FORMATS: usize = 16;

/// Bytes of text that a playlist may come to while it is followed: it is read again as a whole.
pub const MAX_FOLLOWED_BYTES: usize = MAX_PLAYLIST_BYTES;
