//! The daemon's shell: carries out what the machine says, and looks where it is told to.

use policy::supervisor::{Candidate, Effect, Event, Exit, Note, RunId, Sign, Supervisor, Survey, VictimSignal};

use crate::faults::{self, GIB};
use crate::worker::Worker;
use crate::world::{NEVER, World};

impl World {
    /// The shell's part. Returns the answer to a look.
    pub(crate) fn carry_out(&mut self, effect: &Effect, daemon: &Supervisor) -> Option<Event> {
        match effect {
            Effect::Start(run) => self.start(*run),
            Effect::Stop(_) => {
                if let Some(worker) = &mut self.worker {
                    worker.stop(self.now_ms);
                }
            }
            Effect::Sample => {
                let worker = self.worker.as_mut()?;
                return Some(Event::Sampled {
                    run: Some(worker.run),
                    sign: if worker.look(self.now_ms) { Sign::Progress } else { Sign::Nothing },
                    memory: faults::reading(self.weather.0, self.now_ms, &self.settings),
                });
            }
            Effect::Survey(run) => return Some(Event::Surveyed(*run, self.survey())),
            Effect::Signal { pid, signal } => self.signal(*pid, *signal),
            Effect::Save => {
                let saved = daemon.snapshot();
                self.unsaved_end = None;
                // Not one that it has not heard of yet.
                if let Some(ended) = self.ended.as_mut().filter(|(run, ..)| run.0 <= saved.last_run) {
                    ended.3 = true;
                }
                self.saved = Some(saved);
            }
            Effect::Note(note) => self.count(note),
            Effect::Answer(..) => self.tally.answers += 1,
            Effect::Halt => {}
        }
        None
    }

    fn start(&mut self, run: RunId) {
        self.tally.starts += 1;
        if self.mood.1 <= self.now_ms {
            let (mood, lasts_ms) = faults::mood(&mut self.chance);
            self.mood = (mood, self.now_ms + lasts_ms);
        }
        let fate = faults::fate(&mut self.chance, self.mood.0, &self.settings);
        self.worker = Some(Worker::new(run, self.now_ms, fate));
        self.unsaved_end = self.ended.take().filter(|(_, exit, _, saved)| !saved && *exit != Exit::Unseen);
        self.victim = None;
    }

    fn survey(&mut self) -> Survey {
        let tree_bytes = self.weather.2;
        let pid = u32::try_from(self.chance.between(100, 30_000)).unwrap_or(1);
        let mut candidates = vec![Candidate { pid: 1, parent: None, own_bytes: 10 << 20, bytes: 10 << 20 }];
        if self.chance.one_in(2) {
            candidates.push(Candidate { pid, parent: None, own_bytes: tree_bytes / 2, bytes: tree_bytes / 2 });
        }
        Survey { candidates, tree_bytes }
    }

    fn signal(&mut self, pid: u32, signal: VictimSignal) {
        let in_ms = match signal {
            VictimSignal::Term => self.chance.pick(&[5, 1_900, 2_000, 2_500, NEVER / 4]),
            VictimSignal::Kill => self.chance.pick(&[5, 5, 5, NEVER / 4]),
        };
        let at_ms = self.now_ms + in_ms;
        self.victim = match self.victim {
            Some((old, sooner_ms)) if old == pid => Some((pid, sooner_ms.min(at_ms))),
            _ => Some((pid, at_ms)),
        };
    }

    fn count(&mut self, note: &Note) {
        use policy::supervisor::Waiting::{Consecutive, PerHour};
        match note {
            Note::Waiting { kind: Consecutive | PerHour, .. } => self.tally.failed += 1,
            Note::Stalled { .. } => self.tally.stalls += 1,
            Note::StallTolerated { .. } => self.tally.tolerated += 1,
            Note::Victim { .. } => self.tally.victims += 1,
            Note::MemoryElsewhere { .. } => self.tally.elsewhere += 1,
            Note::MemoryRestart { .. } => {
                self.tally.memory_restarts += 1;
                if self.weather.2 > 9 * GIB && self.chance.one_in(2) {
                    self.weather.1 = self.now_ms;
                }
            }
            _ => {}
        }
    }
}
