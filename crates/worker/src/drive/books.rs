//! What is used up: each answer of the CLI into the ledger, and what the budgets leave.

use policy::work::{Event, Spent};
use wire::claude::{Assistant, Ending, Message, Partial, Usage};

use super::desk::Desk;
use crate::calendar::stretches;
use crate::complain;
use crate::settings::{Budgets, Seen, Settings};
use crate::stream::SYNTHETIC;

impl Desk<'_> {
    pub(super) fn spent(&self) -> Spent {
        let Some(ledger) = &self.ledger else { return Spent::default() };
        if self.settings.budget == Budgets::default() {
            return ledger.spent();
        }
        let (wall_ms, loop_ms) = (os::clock::wall_ms(), os::clock::boottime_ms());
        let to_loop = |at_ms: u64| loop_ms.saturating_add(at_ms.saturating_sub(wall_ms));
        let stretches = stretches(wall_ms, &jiff::tz::TimeZone::system());
        // Unreadable: the budgets of the last look hold.
        let windows = ledger.windows(self.settings.budget, stretches, to_loop).unwrap_or(self.windows.get());
        self.windows.set(windows);
        Spent { windows, ..ledger.spent() }
    }

    /// While a budget keeps us waiting and nothing of the task runs.
    pub(super) fn look_at_budget(&mut self) -> Option<Event<'static>> {
        let now = Seen::look(self.recorder.cwd());
        // Twice the same: nobody is in the middle of writing it.
        let settled = std::mem::replace(&mut self.file_now, now.clone()) == now;
        if !settled || now == self.file_then {
            return None;
        }
        self.file_then = now;
        match Settings::read(self.recorder.cwd()) {
            Ok(Settings { budget, .. }) if budget != self.settings.budget => {
                self.settings.budget = budget;
                self.status("the budgets in autopilot.toml have changed");
                Some(Event::Spent(self.spent()))
            }
            Ok(_) => None,
            Err(wrong) => {
                self.status(&format!("the budgets stay as they were: {wrong}"));
                None
            }
        }
    }

    /// The database was written to, by us or by somebody else.
    pub(super) fn database_changed(&mut self) {
        if let Some(ledger) = &mut self.ledger {
            let read = ledger.look_for_reset();
            self.ledger_result(read);
        }
    }

    pub(super) fn seen(&mut self, message: &Message<'_>) {
        self.asking.see(message);
    }

    pub(super) fn begun(&mut self, id: &str, opening: &Partial<'_>) {
        let Some(ledger) = &mut self.ledger else { return };
        let model = opening.model.as_deref().unwrap_or_default();
        let written = ledger.begun(id, model, opening.parent.is_none(), opening.usage.unwrap_or_default());
        self.ledger_result(written);
    }

    pub(super) fn answered(&mut self, assistant: &Assistant<'_>) -> bool {
        let Some(ledger) = &mut self.ledger else { return false };
        let model = assistant.model.as_deref().unwrap_or_default();
        if model == SYNTHETIC {
            return false;
        }
        let nameless;
        let id = match assistant.id.as_deref() {
            Some(id) => id,
            None => {
                self.nameless += 1;
                nameless = format!("nameless-{}", self.nameless);
                &nameless
            }
        };
        let usage = assistant.usage.unwrap_or_default();
        let (new, written) = ledger.answered(id, model, assistant.parent.is_none(), usage);
        self.ledger_result(written);
        new
    }

    pub(super) fn finished(&mut self, id: &str, usage: Usage) {
        if let Some(ledger) = &mut self.ledger {
            let written = ledger.finished(id, usage);
            self.ledger_result(written);
        }
    }

    pub(super) fn is_main(&self, id: &str) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.is_main(id))
    }

    pub(super) fn cost(&mut self, ending: &Ending<'_>) {
        if let Some(ledger) = &mut self.ledger {
            let written = ledger.result(ending);
            self.ledger_result(written);
        }
    }

    pub(super) fn ledger_result(&mut self, written: Result<(), queue::Error>) {
        match written {
            Ok(()) => self.ledger_failed = false,
            Err(error) if !self.ledger_failed => {
                self.ledger_failed = true;
                complain(format_args!("warning: cannot write the ledger: {error}"));
                complain(format_args!(
                    "hint: what is spent is counted in memory and written when there is space again"
                ));
            }
            Err(_) => {}
        }
    }
}
