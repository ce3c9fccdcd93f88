//! What a starting daemon finds of the one before it.
//!
//! A run is over when its lock is free. While it is held, the run's records say who its shim is; what they say counts only
//! where it can be verified: a version that is understood, this boot, this namespace of pids, and a process with that pid
//! and that start time. Where it can't, the run is [`Doubt`]ful, and nothing is signalled.

use std::io;

use os::fail;
use os::poll::Poller;
use os::process::{Identity, Pidfd};
use policy::supervisor::{Event, Exit, Found, RunId};
use wire::run::{Ended, Record, Started};

use crate::containment;
use crate::doubt::Doubt;
use crate::home::{Home, RunFolder};
use crate::runs::{self, LiveRun};
use crate::shim;

/// A shim that was forked just before the daemon died writes its record within this time.
const RECORD_WITHIN_MS: u64 = 1_000;
const LOOK_EVERY_MS: u64 = 5;

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Runs that ended, and were followed by others, without a daemon that lived to record it. Oldest first.
    pub(crate) missed: Vec<Event>,
    /// The newest run, in the machine's words.
    pub(crate) found: Found,
    /// Its number, or 0.
    pub(crate) newest: RunId,
    /// The run itself, if something of it lives.
    pub(crate) live: Option<LiveRun>,
}

/// `ended_run` is the newest run whose end was recorded.
///
/// # Errors
/// If that can't be found out: who knows too little must neither begin a run nor end one.
pub(crate) fn past(home: &Home, boot_id: &str, ended_run: u64) -> io::Result<Past> {
    let numbers = runs::numbers(home)?;
    let mut missed = Vec::new();
    for &number in numbers.iter().skip(1).rev().filter(|&&number| number > ended_run) {
        missed.extend(missed_end(home, number, boot_id)?);
    }
    kill_older(home, boot_id, &numbers)?;
    let number = numbers.first().copied().unwrap_or(0);
    let (found, live) = if number == 0 { (Found::Nothing, None) } else { newest(home, number, boot_id, ended_run)? };
    Ok(Past { missed, found, newest: RunId(number), live })
}

fn missed_end(home: &Home, number: u64, boot_id: &str) -> io::Result<Option<Event>> {
    wait_for_end(home, number, boot_id)?;
    let never_began = |ended: Ended| ended.start_error.is_some();
    if runs::read(&home.run(number).exit())?.is_some_and(never_began) {
        return Ok(None);
    }
    Ok(match ended(home, number, boot_id, 0)? {
        Found::Ended { run, exit, lived_ms } => Some(Event::Missed { run, exit, lived_ms }),
        Found::Nothing | Found::Live { .. } | Found::Orphaned { .. } | Found::Unverified { .. } => None,
    })
}

fn newest(home: &Home, number: u64, boot_id: &str, ended_run: u64) -> io::Result<(Found, Option<LiveRun>)> {
    let folder = home.run(number);
    let run = RunId(number);
    // A shim that has told the end of its run, and only has to end itself, still holds the lock.
    if number <= ended_run || runs::is_free(&folder) {
        return Ok((ended(home, number, boot_id, ended_run)?, None));
    }
    let record = wait_for_record(&folder)?;
    // It may have ended while its record was waited for.
    if runs::is_free(&folder) {
        return Ok((ended(home, number, boot_id, ended_run)?, None));
    }
    let run_id = runs::run_id(&folder)?;
    let mut live = LiveRun::found(number, folder, run_id);
    let found = match look(&live, record, boot_id)? {
        Look::Alive { shim, started } => {
            live.shim = Some(shim);
            live.shim_pid = started.shim.pid;
            let started_ms = started.at_ms;
            take_from(&mut live, &started);
            Found::Live { run, started_ms }
        }
        // It held the lock, wrote its record, and ended, all since the lock was tried: it is one that has ended in order.
        Look::Orphaned(_) if live.folder.exit().exists() && runs::is_free(&live.folder) => {
            return Ok((ended(home, number, boot_id, ended_run)?, None));
        }
        Look::Orphaned(started) => {
            if let Some(started) = started {
                take_from(&mut live, &started);
            }
            Found::Orphaned { run }
        }
        Look::Doubtful(doubt) => {
            live.doubt = Some(doubt);
            Found::Unverified { run }
        }
    };
    Ok((found, Some(live)))
}

fn take_from(live: &mut LiveRun, started: &Started) {
    // A shim that has no child yet, or none any more.
    live.worker = (started.worker.pid != 0).then(|| runs::identity(started.worker));
    live.begun_ticks = live.worker.map(|worker| worker.start_ticks);
    live.started_unix_ms = started.at_unix_ms;
    live.rung = (!started.containment.is_empty()).then(|| started.containment.clone());
    live.group = containment::noted(&started.containment, started.group.as_deref());
}

/// Who holds the lock of a run.
enum Look {
    /// Its shim lives.
    Alive { shim: Pidfd, started: Started },
    /// Its shim is gone, and something else of it is not.
    Orphaned(Option<Started>),
    /// Nobody knows.
    Doubtful(Doubt),
}

fn look(live: &LiveRun, record: Record<Started>, boot_id: &str) -> io::Result<Look> {
    let started = match judge(record, boot_id) {
        Ok(started) => started,
        Err(doubt) => return Ok(Look::Doubtful(doubt)),
    };
    let shim = match &started {
        Some(started) => alive(runs::identity(started.shim))?,
        None => None,
    };
    Ok(match (shim, started) {
        (Some(shim), Some(started)) => Look::Alive { shim, started },
        (_, started) => {
            let left = runs::left_of(&live.folder, &live.run_id)?;
            // A shim that could not write its record, on a full disk for instance, is no less alive; nor is one whose record
            // names another process than the one that holds the lock.
            if let Some((shim, started)) = without_record(&left, &runs::marked(&live.run_id)?)? {
                return Ok(Look::Alive { shim, started });
            }
            let noted = started.as_ref().and_then(|s| containment::noted(&s.containment, s.group.as_deref()));
            if left.is_empty() && noted.is_none_or(|group| group.is_empty()) && !runs::is_free(&live.folder) {
                return Ok(Look::Doubtful(Doubt::NobodySeen));
            }
            Look::Orphaned(started)
        }
    })
}

/// One that has ended, and that nobody has reaped, is not: many an init of a container does not.
fn alive(identity: Identity) -> io::Result<Option<Pidfd>> {
    fail::point("adopt.pidfd")?;
    let Some(pidfd) = Pidfd::open(identity)? else { return Ok(None) };
    Ok(os::proc::stat(os::proc::root(), identity.pid).is_ok_and(|stat| stat.state != 'Z').then_some(pidfd))
}

/// What a record is worth here and now; `None`: there is none.
fn judge(record: Record<Started>, boot_id: &str) -> Result<Option<Started>, Doubt> {
    if os::process::own_identity().start_ticks == 0 || boot_id.is_empty() {
        return Err(Doubt::NoProc);
    }
    match record {
        Record::Unknown { v } => Err(Doubt::Version { v }),
        Record::Garbled => Ok(None),
        Record::Known(started) if started.boot_id != boot_id => Err(Doubt::OtherBoot),
        Record::Known(started) => {
            let own = os::process::pid_namespace();
            match started.pid_namespace {
                0 => Ok(Some(started)),
                namespace if namespace == own => Ok(Some(started)),
                _ => Err(Doubt::OtherNamespace),
            }
        }
    }
}

/// The shim among those that hold a run's lock, and what its record would say.
fn without_record(holders: &[Identity], marked: &[Identity]) -> io::Result<Option<(Pidfd, Started)>> {
    let root = os::proc::root();
    // Whoever has the run's mark was executed in it, whatever it calls itself.
    let named = |identity: &&Identity| {
        !marked.contains(identity)
            && os::proc::stat(root, identity.pid).is_ok_and(|stat| stat.name.as_bytes() == shim::NAME.to_bytes())
    };
    let Some(&shim) = holders.iter().find(named) else { return Ok(None) };
    let Some(pidfd) = alive(shim)? else { return Ok(None) };
    let is_child = |identity: &&Identity| os::proc::stat(root, identity.pid).is_ok_and(|stat| stat.parent == shim.pid);
    let worker = holders.iter().find(is_child).copied().unwrap_or(Identity { pid: 0, start_ticks: 0 });
    let age_ms = os::process::age_ms(if worker.pid == 0 { shim } else { worker });
    let started = Started {
        shim: shim::process(shim),
        worker: shim::process(worker),
        at_ms: os::clock::monotonic_ms().saturating_sub(age_ms),
        at_unix_ms: os::clock::wall_ms().saturating_sub(age_ms),
        ..Started::default()
    };
    Ok(Some((pidfd, started)))
}

fn ended(home: &Home, number: u64, boot_id: &str, ended_run: u64) -> io::Result<Found> {
    let folder = home.run(number);
    let run = RunId(number);
    if number <= ended_run {
        return Ok(Found::Nothing);
    }
    let started: Option<Started> = runs::read(&folder.started())?;
    Ok(match (runs::record::<Ended>(&folder.exit())?, started) {
        (Record::Known(ended), _) if ended.boot_id == boot_id => {
            Found::Ended { run, exit: runs::exit_of(&ended), lived_ms: ended.lived_ms }
        }
        // Of another boot.
        (Record::Known(_), _) => Found::Nothing,
        (Record::Unknown { .. } | Record::Garbled, Some(started)) if started.boot_id == boot_id => {
            // Shim and worker were both killed, or the record can't be read; how long it lived nobody knows.
            Found::Ended { run, exit: Exit::Unseen, lived_ms: 0 }
        }
        // It never began.
        (Record::Unknown { .. } | Record::Garbled, _) => Found::Nothing,
    })
}

/// Only the newest run may live. What is left of an older one was missed by a daemon that died while it ended it.
fn kill_older(home: &Home, boot_id: &str, numbers: &[u64]) -> io::Result<()> {
    for &number in numbers.iter().skip(1) {
        let folder = home.run(number);
        if runs::is_free(&folder) || judge(runs::record(&folder.started())?, boot_id).is_err() {
            continue;
        }
        let run_id = runs::run_id(&folder)?;
        os::tree::kill_each(&runs::left_of(&folder, &run_id)?);
    }
    Ok(())
}

/// Its daemon began the next run as soon as it was told of the end: perhaps the shim is still at its record.
fn wait_for_end(home: &Home, number: u64, boot_id: &str) -> io::Result<()> {
    let folder = home.run(number);
    let Ok(Some(started)) = judge(runs::record(&folder.started())?, boot_id) else { return Ok(()) };
    let shim = runs::identity(started.shim);
    wait_until(|| Ok(folder.exit().exists() || alive(shim)?.is_none()))
}

/// Looks until it is so, or [`RECORD_WITHIN_MS`] are over.
fn wait_until(mut is_so: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let until_ms = os::clock::monotonic_ms() + RECORD_WITHIN_MS;
    let poller = Poller::new()?;
    while !is_so()? && os::clock::monotonic_ms() < until_ms {
        poller.wait(Some(LOOK_EVERY_MS), &mut Vec::new())?;
    }
    Ok(())
}

/// Who might write the record is looked for, in all of `/proc`, at each so many looks.
const LOOKS_FOR_A_WRITER: u32 = 10;

fn wait_for_record(folder: &RunFolder) -> io::Result<Record<Started>> {
    let mut record = Record::Garbled;
    let mut looks = 0_u32;
    wait_until(|| {
        looks += 1;
        record = runs::record(&folder.started())?;
        Ok(record != Record::Garbled
            || runs::lock_is_free(folder)
            || (looks.is_multiple_of(LOOKS_FOR_A_WRITER) && !runs::has_a_writer(folder)))
    })?;
    Ok(record)
}
