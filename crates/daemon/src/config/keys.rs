//! The table of keys: the one place that knows a setting's name, kind, range, default, other sources and meaning.
//!
//! The structs that the daemon uses, the checks, `autopilotd config` and the printed reference all come from it. A new
//! setting is one entry here.

use super::env::EnvVars;
use super::value::AgentUpdate;
use super::value::{Containment, FromValue, Setting, StoreMode, Value};
use std::path::PathBuf;

/// A duration's upper bound, 366 days in milliseconds: sums of a few cannot overflow, in milliseconds or in µs.
const MAX_MILLIS: u64 = 366 * 24 * 60 * 60 * 1_000;
/// TOML's integers end here.
const MAX_INTEGER: u64 = i64::MAX as u64;
const MAX_COUNT: u64 = u32::MAX as u64;
/// In dollars. Exact as micro-dollars in an `f64` and in an `i64`.
const MAX_BUDGET_USD: f64 = 1e9;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Millis,
    Bytes,
    Count,
    Usd,
    Factor,
}

/// What a key's value must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Integer {
        unit: Unit,
        min: u64,
        max: u64,
    },
    Float {
        unit: Unit,
        min: f64,
        max: f64,
    },
    /// Free text; several lines are fine.
    Text,
    /// One line that does not start with a dash: it becomes a command's argument.
    Name,
    Path,
    List,
    Choice(&'static [&'static str]),
}

/// A key's default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Preset {
    Unset,
    /// The folder in which the daemon was started.
    CurrentDir,
    Integer(u64),
    Float(f64),
    Text(&'static str),
    List(&'static [&'static str]),
}

impl Preset {
    /// As a line of the file would have it.
    pub(super) fn written(self) -> Option<String> {
        Some(match self {
            Self::Unset | Self::CurrentDir => return None,
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::Text(text) => format!("{text:?}"),
            Self::List(names) => format!("{names:?}"),
        })
    }
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Empty above the first section header.
    pub section: &'static str,
    pub name: &'static str,
    /// `section.name`.
    pub path: &'static str,
    pub doc: &'static str,
    pub kind: Kind,
    pub preset: Preset,
    /// Another section where the key is accepted too (empty: the top level).
    pub also_in: Option<&'static str>,
    pub flag: Option<&'static str>,
    pub env: Option<&'static str>,
    /// What 0 means, where it is not simply a small number.
    pub zero: Option<&'static str>,
}

impl Key {
    const fn of(kind: Kind, preset: Preset) -> Self {
        Self {
            section: "",
            name: "",
            path: "",
            doc: "",
            kind,
            preset,
            also_in: None,
            flag: None,
            env: None,
            zero: None,
        }
    }

    const fn millis(preset: u64) -> Self {
        let (unit, min, max) = (Unit::Millis, 0, MAX_MILLIS);
        Self::of(Kind::Integer { unit, min, max }, Preset::Integer(preset))
    }

    const fn bytes(preset: u64) -> Self {
        let (unit, min, max) = (Unit::Bytes, 0, MAX_INTEGER);
        Self::of(Kind::Integer { unit, min, max }, Preset::Integer(preset))
    }

    const fn count(preset: u64) -> Self {
        let (unit, min, max) = (Unit::Count, 0, MAX_COUNT);
        Self::of(Kind::Integer { unit, min, max }, Preset::Integer(preset))
    }

    const fn at_least(mut self, least: u64) -> Self {
        if let Kind::Integer { unit, max, .. } = self.kind {
            let min = least;
            self.kind = Kind::Integer { unit, min, max };
        }
        self
    }

    const fn up_to(mut self, most: u64) -> Self {
        if let Kind::Integer { unit, min, .. } = self.kind {
            let max = most;
            self.kind = Kind::Integer { unit, min, max };
        }
        self
    }

    const fn also_in(mut self, section: &'static str) -> Self {
        self.also_in = Some(section);
        self
    }

    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    const fn env(mut self, env: &'static str) -> Self {
        self.env = Some(env);
        self
    }

    const fn zero(mut self, meaning: &'static str) -> Self {
        self.zero = Some(meaning);
        self
    }

    const fn named(mut self, section: &'static str, name: &'static str, path: &'static str, doc: &'static str) -> Self {
        self.section = section;
        self.name = name;
        self.path = path;
        self.doc = doc;
        self
    }
}

/// The keys of one section of the file, in the order in which they are shown.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Empty above the first section header.
    pub name: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

/// Makes a section's struct, its keys and the way from the one to the other, so that names and texts cannot drift apart.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $vis:vis struct $Name:ident at $section:literal $dot:literal as $SECTION:ident {
            $( $(#[doc = $doc:literal])+ $field:ident as $key:literal: $Type:ty = $shape:expr; )+
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $Name {
            $( $(#[doc = $doc])+ pub $field: Setting<$Type>, )+
        }

        const $SECTION: Section = Section {
            name: $section,
            doc: concat!($($section_doc),+),
            keys: &[
                $( $shape.named($section, $key, concat!($section, $dot, $key), concat!($($doc),+)), )+
            ],
        };

        impl $Name {
            /// Takes this section's settings from `values`, which are in the table's order.
            pub(super) fn take(values: &mut dyn Iterator<Item = Setting<Value>>) -> Option<Self> {
                Some(Self {
                    $( $field: {
                        let setting = values.next()?;
                        Setting::new(FromValue::from_value(&setting.value)?, setting.origin)
                    }, )+
                })
            }
        }
    };
}

section! {
    /// What the worker works on.
    pub struct Job at "" "" as JOB {
        /// The folder in which the worker runs.
        working_dir as "working_dir": PathBuf = Key::of(Kind::Path, Preset::CurrentDir).also_in("worker_command").flag("--workdir");
        /// The project's name; without it the working directory identifies the project.
        project as "project": Option<String> = Key::of(Kind::Name, Preset::Unset).also_in("worker_command").flag("--project");
        /// The model, as the Claude Code CLI names it.
        model as "model": String = Key::of(Kind::Name, Preset::Text("sonnet")).also_in("worker_command").flag("--model");
        /// What the worker is asked to do.
        prompt as "prompt": Option<String> = Key::of(Kind::Text, Preset::Unset).also_in("worker_command").flag("--prompt");
        /// The most that a job may cost, over all restarts. A job is one prompt, or all tasks of the project's queue; another prompt counts from 0.
        max_budget as "max_budget": f64 = Key::of(Kind::Float { unit: Unit::Usd, min: 0.0, max: MAX_BUDGET_USD }, Preset::Float(0.0))
            .also_in("worker_command").flag("--max-budget").zero("no limit");
        /// The most turns that a job may take, over all restarts.
        max_turns as "max_turns": u64 = Key::count(99_999).up_to(MAX_INTEGER).also_in("worker_command").flag("--max-turns").zero("no limit");
        /// How the worker's whole process tree is kept together.
        containment as "containment": Containment = Key::of(Kind::Choice(Containment::NAMES), Preset::Text("auto"));
        /// `auto`: what runs is an immutable copy that was tried and can be rolled back; `off`: the file itself.
        store as "store": StoreMode = Key::of(Kind::Choice(StoreMode::NAMES), Preset::Text("auto")).also_in("worker_command");
        /// A new worker binary must be healthy for so long until it is proven.
        probation_ms as "probation_ms": u64 = Key::millis(600_000).also_in("restart");
        /// When the copy of the Claude Code CLI that runs is replaced: `manual`, by `autopilotd install --agent`; `on-new-version`, when the CLI's file has changed; `off`: no copy is kept.
        agent_update as "agent_update": AgentUpdate = Key::of(Kind::Choice(AgentUpdate::NAMES), Preset::Text("manual"));
    }
}

section! {
    /// Which program the worker is. Without it: `bin/autopilot` in the home.
    pub(super) struct Command at "worker_command" "." as COMMAND {
        /// `Binary`, a program that is built already; `Cargo`, built from source at each start (fragile).
        kind as "type": Option<String> = Key::of(Kind::Choice(&["Binary", "Cargo"]), Preset::Unset);
        /// The program, for `Binary`.
        path as "path": Option<PathBuf> = Key::of(Kind::Path, Preset::Unset).env(EnvVars::AUTOPILOT_WORKER_BINARY);
        /// The `Cargo.toml`, for `Cargo`; without it the one that cargo finds from the working directory.
        manifest_path as "manifest_path": Option<PathBuf> = Key::of(Kind::Path, Preset::Unset);
    }
}

section! {
    /// When memory gets short.
    pub struct Memory at "memory" "." as MEMORY {
        /// Below this much available memory the worker's largest helper processes are ended.
        min_available_bytes as "min_available_bytes": u64 = Key::bytes(2 << 30).zero("off");
        /// Below this much available memory the worker is restarted.
        critical_threshold_bytes as "critical_threshold_bytes": u64 = Key::bytes(1 << 30).zero("off");
        /// The longest time between two looks; near a threshold they are more frequent.
        poll_interval_ms as "poll_interval_ms": u64 = Key::millis(5_000).at_least(1);
        /// Only helper processes larger than this are ended.
        node_kill_threshold_bytes as "node_kill_threshold_bytes": u64 = Key::bytes(500 << 20);
        /// The names of the helper processes that may be ended, in the worker's own tree only.
        kill_names as "kill_names": Vec<String> = Key::of(Kind::List, Preset::List(&["node", "claude", "bun", "deno"]));
        /// Above this sum over all helper processes the largest are ended, however small each is.
        swarm_kill_threshold_bytes as "swarm_kill_threshold_bytes": u64 = Key::bytes(0).zero("off");
    }
}

section! {
    /// When the worker ends, hangs or must be stopped.
    pub struct Restart at "restart" "." as RESTART {
        /// The delay before the first restart.
        initial_backoff_ms as "initial_backoff_ms": u64 = Key::millis(1_000);
        /// The longest delay.
        max_backoff_ms as "max_backoff_ms": u64 = Key::millis(300_000);
        /// By how much the delay grows from one failure to the next.
        backoff_multiplier as "backoff_multiplier": f64 = Key::of(Kind::Float { unit: Unit::Factor, min: 1.0, max: 1_000.0 }, Preset::Float(2.0));
        /// A worker that lived this long resets the delay.
        success_threshold_ms as "success_threshold_ms": u64 = Key::millis(60_000);
        /// After so many failures in a row the daemon pauses for the cooldown.
        max_consecutive_restarts as "max_consecutive_restarts": u32 = Key::count(10).zero("never pause");
        /// A worker with no sign of activity for so long is killed and restarted.
        stall_timeout_ms as "stall_timeout_ms": u64 = Key::millis(300_000).env(EnvVars::AUTOPILOT_STALL_TIMEOUT_MS).zero("off");
        /// The pause after too many failures; then the count starts afresh.
        recovery_cooldown_ms as "recovery_cooldown_ms": u64 = Key::millis(600_000).env(EnvVars::AUTOPILOT_RECOVERY_COOLDOWN_MS);
        /// How long a worker may take to end after SIGTERM, before SIGKILL.
        stop_timeout_ms as "stop_timeout_ms": u64 = Key::millis(10_000).also_in("");
        /// A worker younger than this is never called stalled.
        stall_grace_ms as "stall_grace_ms": u64 = Key::millis(120_000);
        /// So many deaths within an hour pause the daemon too, however long each worker lived.
        max_restarts_per_hour as "max_restarts_per_hour": u32 = Key::count(30).zero("off");
        /// After so many stall kills within an hour the daemon only warns.
        max_stall_kills_per_hour as "max_stall_kills_per_hour": u32 = Key::count(3).zero("only warn");
    }
}

section! {
    /// The worker's captured output.
    pub struct Output at "output" "." as OUTPUT {
        /// A log file is rotated at this size.
        max_file_bytes as "max_file_bytes": u64 = Key::bytes(10 << 20).at_least(4_096);
        /// How many log files are kept, the current one included.
        max_files as "max_files": u32 = Key::count(5).at_least(1).up_to(1_000);
    }
}

/// Every key, in the order of the file.
pub const SECTIONS: &[Section] = &[JOB, COMMAND, MEMORY, RESTART, OUTPUT];

/// Every key, in the order of the file.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// The key's place in [`keys`].
pub(super) fn position(path: &str) -> Option<usize> {
    keys().position(|key| key.path == path)
}
