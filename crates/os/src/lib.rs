//! The only room that talks to the kernel: clock, epoll, pidfd, fork and exec, process trees, `/proc` readers, memory,
//! files, sockets.
//!
//! **Invariant:** no decisions and no formats live here. Whoever calls says what is to happen; these functions say what
//! did. It is also the only room with `unsafe` code, each block with its reason.

pub mod append;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod exec;
pub mod fail;
pub mod files;
pub mod fork;
pub mod image;
pub mod memory;
pub mod notify;
pub mod output;
pub mod poll;
pub mod proc;
pub mod process;
pub mod random;
pub mod signals;
pub mod socket;
pub mod spawn;
pub mod terminal;
pub mod tree;
pub mod watch;
