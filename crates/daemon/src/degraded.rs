//! What does not work as it should, for as long as that is so.

use std::path::PathBuf;

use wire::run::Leaked;

use crate::home::Home;
use crate::start;

/// One thing, in a sentence.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) text: String,
    until: Until,
}

/// How it is known that it is over. It is looked at when somebody asks.
#[derive(Debug, Clone)]
enum Until {
    /// Not before this daemon ends.
    TheEnd,
    /// There is a pid file.
    PidFile,
    /// The home is for its owner alone.
    Private,
    /// The file is gone.
    Removed(PathBuf),
    /// None of these processes is there.
    Ended(Vec<Leaked>),
}

impl Problem {
    pub(crate) fn lasting(text: String) -> Self {
        Self { text, until: Until::TheEnd }
    }

    pub(crate) fn no_pid_file(text: String) -> Self {
        Self { text, until: Until::PidFile }
    }

    pub(crate) fn is_of_pid_file(&self) -> bool {
        matches!(self.until, Until::PidFile)
    }

    pub(crate) fn shared(text: String) -> Self {
        Self { text, until: Until::Private }
    }

    /// Over when the operator has removed what was set aside; where it could not be renamed, there is nothing to remove.
    pub(crate) fn set_aside(text: String, to: Option<PathBuf>) -> Self {
        Self { text, until: to.map_or(Until::TheEnd, Until::Removed) }
    }

    pub(crate) fn leaked(text: String, who: Vec<Leaked>) -> Self {
        Self { text, until: Until::Ended(who) }
    }

    pub(crate) fn lasts(&self, home: &Home) -> bool {
        match &self.until {
            Until::TheEnd => true,
            Until::PidFile => !home.pid_file().exists(),
            Until::Private => start::shared_home(home).is_some(),
            Until::Removed(path) => path.try_exists().unwrap_or(true),
            Until::Ended(who) => who.iter().any(is_there),
        }
    }
}

fn is_there(leaked: &Leaked) -> bool {
    os::proc::stat(os::proc::root(), leaked.pid).is_ok_and(|stat| stat.name == leaked.name && stat.state != 'Z')
}
