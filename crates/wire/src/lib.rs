pub mod control;
pub mod run;
