//! The record of what was done, read afterwards or while it grows: which logs there are, what they say, what it took, and how
//! much of the disk they may keep.
//!
//! Reads only, but for [`archive`], which makes logs smaller or removes them, and never one that is still written to. Every
//! log may be torn, garbled or huge, and from another tool: lines are bounded, files are read as streams.

mod analysis;
mod apm;
mod archive;
mod follow;
mod logs;
mod paint;
mod retold;
mod script;

pub use analysis::{Analysis, ModelUse, ToolUse};
pub use apm::{Actions, Tier, Window};
pub use archive::{Change, Job as Housekeeping, Kept, Outcome as Tidied};
pub use follow::{Follower, Heard};
pub use logs::{Log, NotFound, Span, all, choose, each_line, in_path};
pub use paint::Paint;
pub use script::{Step, script};
