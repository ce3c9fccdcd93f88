//! What holds however often, and whenever, the daemon is killed. The same, longer: `cargo xtask soak`.

mod days;
mod kills;
