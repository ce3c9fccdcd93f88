//! The supervisor's rules, one by one, in virtual time.

#[path = "../shared/contract.rs"]
mod contract;
mod delays;
mod matrix;
mod memory;
mod operator;
mod restore;
mod rig;
mod rollback;
mod stale;
mod stall;
mod states;
