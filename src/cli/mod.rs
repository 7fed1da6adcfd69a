//! The commands, one file each; this room alone wires the parts together.
pub mod demo;
