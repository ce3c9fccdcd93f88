//! Under construction.

pub mod binary;
pub mod config;
