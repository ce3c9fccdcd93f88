//! Bytes to values and back, and nothing else: no file, no socket, no clock. Decoders never fail and never panic; what
//! they do not know they say so.

pub mod claude;
pub mod control;
pub mod handover;
pub mod journal;
pub mod redact;
pub mod rlog;
pub mod run;
