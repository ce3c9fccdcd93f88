//! One worker's supervisor: when to start, when to wait, when to end, whom to end for want of memory.
//!
//! The states and what leads from one to the next (every state answers every event; see [`step`]):
//!
//! ```text
//!            Boot                     Started            Announced
//!  Down ───────────────▶ Starting ───────────▶ Running ───────────▶ Ready
//!                         ▲  │ StartFailed        │ Exited, or a stop for stall or memory (Stopping, then)
//!                         │  ▼                    ▼
//!              due ┌── BackingOff ◀──────── failure or quick clean exit
//!                  └── CoolingDown ◀─────── too many failures: `failed`
//!
//!  Unknown:     where it can't be told what lives of a run; its end leads out of it, or the operator, by Stopping.
//!  stop-worker: from anywhere, by Stopping, to Stopped; only start-worker or restart-worker lead out of it.
//!  stop:        from anywhere, by ShuttingDown, to Halted; nothing leads out of it.
//! ```

mod backoff;
mod boot;
mod command;
mod memory;
mod operator;
mod rollback;
mod settings;
mod stall;
mod step;
mod types;
mod view;
mod watching;
mod window;

pub use backoff::delay_ms;
pub use command::{Answer, Command, Refusal, RequestId};
pub use memory::{Band, Candidate, MemoryReading, Survey};
pub use rollback::Counters;
pub use settings::Settings;
pub use stall::Watch;
pub use step::Supervisor;
pub use types::{
    Effect, Event, Exit, Found, Note, Reason, Recalled, RunId, Sign, StartFailure, State, Then, VictimSignal, Waiting,
};
pub use view::{Snapshot, View, WorkerStatus};
