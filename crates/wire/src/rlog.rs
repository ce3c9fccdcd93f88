//! rlog
