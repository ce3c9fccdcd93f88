//! The numbers that the operator can choose. Their ranges are checked where they are read, not here.

/// What the decisions depend on. `_ms` are milliseconds, `_bytes` bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Delay before the first restart after a failure. 0 is legal: at once.
    pub initial_backoff_ms: u64,
    /// The longest delay.
    pub max_backoff_ms: u64,
    /// Each delay is this times the one before; at least 1.
    pub backoff_multiplier: f64,
    /// A run that lived this long is a success: the count of failures starts anew.
    pub success_threshold_ms: u64,
    /// So many failures in a row lead to `failed`; 0: never.
    pub max_consecutive_restarts: u32,
    /// So many failures within an hour lead to `failed`, successes between them or not; 0: never.
    pub max_restarts_per_hour: u32,
    /// How long `failed` lasts before the next try.
    pub recovery_cooldown_ms: u64,
    /// A run without activity for so long is stalled; 0: never.
    pub stall_timeout_ms: u64,
    /// So long after its start a run is never called stalled.
    pub stall_grace_ms: u64,
    /// At most so many runs are ended as stalled within an hour, then it only warns; 0: only ever warn.
    pub max_stall_kills_per_hour: u32,
    /// Below this much available memory, big processes of the worker's tree are ended.
    pub min_available_bytes: u64,
    /// Below this much, the worker is restarted.
    pub critical_threshold_bytes: u64,
    /// The longest time between two looks at memory and activity.
    pub poll_interval_ms: u64,
    /// A process of a listed name is only a victim from this size on.
    pub node_kill_threshold_bytes: u64,
    /// The processes of the listed names together are a victim from this size on; 0: never.
    pub swarm_kill_threshold_bytes: u64,
}

impl Default for Settings {
    /// The defaults of the documentation.
    fn default() -> Self {
        Self {
            initial_backoff_ms: 1_000,
            max_backoff_ms: 300_000,
            backoff_multiplier: 2.0,
            success_threshold_ms: 60_000,
            max_consecutive_restarts: 10,
            max_restarts_per_hour: 30,
            recovery_cooldown_ms: 600_000,
            stall_timeout_ms: 300_000,
            stall_grace_ms: 120_000,
            max_stall_kills_per_hour: 3,
            min_available_bytes: 2 << 30,
            critical_threshold_bytes: 1 << 30,
            poll_interval_ms: 5_000,
            node_kill_threshold_bytes: 500 << 20,
            swarm_kill_threshold_bytes: 0,
        }
    }
}
