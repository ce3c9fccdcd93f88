//! How the worker ends, as a supervisor or a shell script sees it.

/// The worker's exit codes. They are part of its interface: a supervisor decides by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The work is done; without full-auto: the single session ended well.
    Done = 0,
    /// A fault of ours or of the machine: the state cannot be written, a call of the kernel failed.
    Internal = 1,
    /// The command line asks for something that does not exist or makes no sense.
    Usage = 2,
    /// The job's turns are used up.
    Turns = 10,
    /// The job's budget is used up.
    Budget = 11,
    /// Only a person can go on: login, credit, a disabled organisation, a model that does not exist.
    NeedsYou = 12,
    /// The Claude CLI is missing or does not run.
    CliUnusable = 13,
    /// The API failed (rate limit, overload, network) in a run without full-auto, which does not wait.
    Api = 14,
    /// Another worker holds this project.
    Busy = 15,
    /// The agent gave up, or its sessions failed for good; or a task of the queue waits for a person now.
    GaveUp = 16,
    /// Ended by SIGINT.
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// Every code, for the help text.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Internal,
        Self::Usage,
        Self::Turns,
        Self::Budget,
        Self::NeedsYou,
        Self::CliUnusable,
        Self::Api,
        Self::Busy,
        Self::GaveUp,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What it means, in a few words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "work done (without --full-auto: the session ended well)",
            Self::Internal => "internal error",
            Self::Usage => "usage",
            Self::Turns => "turns used up",
            Self::Budget => "budget used up",
            Self::NeedsYou => "needs you: login, credit, disabled organisation, unknown model",
            Self::CliUnusable => "Claude CLI missing or unusable",
            Self::Api => "API failure (rate limit, overload, network) without --full-auto",
            Self::Busy => "another worker holds this project",
            Self::GaveUp => "the agent gave up, its sessions failed for good, or a task was set aside",
            Self::Interrupted => "ended by SIGINT",
            Self::Terminated => "ended by SIGTERM",
        }
    }
}

impl From<policy::work::Code> for Exit {
    fn from(code: policy::work::Code) -> Self {
        use policy::work::Code;
        match code {
            Code::Done => Self::Done,
            Code::Turns => Self::Turns,
            Code::Budget => Self::Budget,
            Code::NeedsYou => Self::NeedsYou,
            Code::CliUnusable => Self::CliUnusable,
            Code::Api => Self::Api,
            Code::GaveUp => Self::GaveUp,
            Code::Terminated => Self::Terminated,
            Code::Interrupted => Self::Interrupted,
        }
    }
}
