//! What the job has used up: in the queue's database, so that turns and budget hold over sessions, crashes and restarts.
//!
//! What counts for the running job is kept in memory, too, by the same rules: a disk that is full for an hour must not let a budget be
//! exceeded. The uses of a process that died without a result are priced by what the agent said before of the same model, else by
//! [`crate::price`]; and a request that it had sent and whose answer nobody saw counts like the answer before it.

mod old;

use std::collections::HashMap;
use std::path::Path;

use policy::work::Spent;
use policy::work::budget::Window;
use queue::{Entry, Error, Price, Queue, Tokens, Totals};
use wire::claude::{Ending, ModelCost, Usage};

use crate::calendar::Stretch;
use crate::price::listed_micros;
use crate::settings::Budgets;

/// The account of all tasks of a queue.
pub const QUEUE_ACCOUNT: &str = "queue";

/// Entries that wait for a disk that takes them; the oldest are given up first. They still count until the worker ends.
const MAX_UNWRITTEN: usize = 10_000;

#[derive(Debug, Clone)]
struct Answer {
    model: String,
    usage: Usage,
    main: bool,
    /// What it is thought to cost, until a result has told; then 0.
    unsettled_micros: u64,
    /// More of it than its beginning was heard.
    heard: bool,
    /// Until its final counts are told it is thought to be as long as the longest before it: it may be cut off.
    is_open: bool,
}

#[derive(Debug, Default)]
struct Tally {
    turns: u64,
    settled_micros: u64,
    /// The sum over the answers.
    unsettled_micros: u64,
    tokens_in: u64,
    tokens_out: u64,
    /// Of the running process, by message id.
    answers: HashMap<String, Answer>,
    /// The totals when the current log was opened.
    log_began: Totals,
    /// What the session had cost in all at its last result; the CLI keeps counting when it resumes one.
    session_total: u64,
    /// What was spent before this time does not count.
    since_ms: u64,
    /// Requests whose answers nobody saw, and for which there is no price yet.
    unpriced: u64,
    /// Tokens of the longest answer so far.
    longest: u64,
    /// The running process has such a request, and that is told.
    unanswered: bool,
}

impl Tally {
    fn totals(&self) -> Totals {
        let (tokens_in, tokens_out) = (self.tokens_in, self.tokens_out);
        Totals { tokens_in, tokens_out, cost_micros: self.settled_micros + self.unsettled_micros }
    }

    fn start(&mut self, session_total: u64) {
        // The process before has said all that it ever will.
        self.settled_micros += std::mem::take(&mut self.unsettled_micros);
        self.answers.clear();
        self.session_total = session_total;
        self.unanswered = false;
    }

    fn answer(&mut self, id: &str, answer: Answer) {
        let (usage, main) = (answer.usage, answer.main);
        self.unsettled_micros += answer.unsettled_micros;
        self.settled_micros += std::mem::take(&mut self.unpriced) * answer.unsettled_micros;
        match self.answers.insert(id.to_owned(), answer) {
            Some(before) => {
                self.unsettled_micros -= before.unsettled_micros;
                self.tokens_in = self.tokens_in.saturating_sub(tokens_in(before.usage));
                self.tokens_out = self.tokens_out.saturating_sub(before.usage.output_tokens);
            }
            None => self.turns += u64::from(main),
        }
        self.tokens_in += tokens_in(usage);
        self.tokens_out += usage.output_tokens;
    }

    fn result(&mut self, cost_micros: Option<u64>, total_micros: Option<u64>) {
        let thought = std::mem::take(&mut self.unsettled_micros);
        self.settled_micros += queue::told(cost_micros, total_micros, self.session_total).unwrap_or(thought);
        self.answers.values_mut().for_each(|answer| answer.unsettled_micros = 0);
        self.session_total = total_micros.unwrap_or(self.session_total);
    }
}

fn tokens_in(usage: Usage) -> u64 {
    usage.input_tokens + usage.cache_write_tokens + usage.cache_read_tokens
}

/// The ledger of one job or of the queue.
#[derive(Debug)]
pub(crate) struct Ledger {
    account: String,
    db: Queue,
    tally: Tally,
    /// By model.
    prices: HashMap<String, Price>,
    /// Entries that could not be written; they still count.
    unwritten: Vec<Entry>,
}

impl Ledger {
    /// Opens the database and reads where the account stands. A ledger of an earlier version is taken over first.
    pub(crate) fn open(folder: &Path, account: &str) -> Result<Self, Error> {
        let mut db = Queue::create(&folder.join("queue.db"))?;
        old::take_over(folder, &mut db)?;
        let prices = db.prices()?.into_iter().map(|price| (price.model.clone(), price)).collect();
        let mut ledger =
            Self { account: account.to_owned(), db, tally: Tally::default(), prices, unwritten: Vec::new() };
        ledger.read()?;
        Ok(ledger)
    }

    fn read(&mut self) -> Result<(), Error> {
        let account = self.db.account(&self.account)?;
        let Totals { tokens_in, tokens_out, cost_micros } = account.totals;
        let (turns, log_began, since_ms) = (account.turns, account.log_began, account.since_ms);
        self.tally = Tally {
            unpriced: account.unpriced,
            longest: account.longest,
            turns,
            settled_micros: cost_micros,
            tokens_in,
            tokens_out,
            log_began,
            since_ms,
            ..Tally::default()
        };
        Ok(())
    }

    /// Between two processes of the agent: whether somebody has the budget count afresh.
    pub(crate) fn look_for_reset(&mut self) -> Result<(), Error> {
        self.db.wait_for_writer()?;
        if self.unwritten.is_empty() && self.db.counts_since_ms()? != self.tally.since_ms {
            self.read()?;
        }
        Ok(())
    }

    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    pub(crate) fn spent(&self) -> Spent {
        let cost_micros = self.tally.totals().cost_micros;
        Spent { turns: self.tally.turns, cost_micros, ..Spent::default() }
    }

    /// What the whole project has spent in these stretches of time, against its budgets. `to_ms` makes a time of day one of the
    /// loop's clock.
    pub(crate) fn windows(
        &self,
        budgets: Budgets,
        stretches: [Stretch; 3],
        to_ms: impl Fn(u64) -> u64,
    ) -> Result<[Window; 3], Error> {
        let limits = [budgets.daily_micros, budgets.weekly_micros, budgets.monthly_micros];
        let mut windows = [Window::default(); 3];
        for ((window, limit_micros), stretch) in windows.iter_mut().zip(limits).zip(stretches) {
            if limit_micros > 0 {
                let spent_micros = self.db.spent_since(stretch.begins_ms)? + self.unwritten_micros();
                *window = Window { limit_micros, spent_micros, ends_at_ms: to_ms(stretch.ends_ms) };
            }
        }
        Ok(windows)
    }

    fn unwritten_micros(&self) -> u64 {
        let micros = |entry: &Entry| match entry {
            Entry::Use { thought_micros, .. } | Entry::Unanswered { thought_micros, .. } => *thought_micros,
            Entry::Log { .. } | Entry::Start { .. } | Entry::Result { .. } => 0,
        };
        self.unwritten.iter().map(micros).sum()
    }

    /// Since the current log was opened.
    pub(crate) fn log_totals(&self) -> Totals {
        let (now, began) = (self.tally.totals(), self.tally.log_began);
        Totals {
            tokens_in: now.tokens_in.saturating_sub(began.tokens_in),
            tokens_out: now.tokens_out.saturating_sub(began.tokens_out),
            cost_micros: now.cost_micros.saturating_sub(began.cost_micros),
        }
    }

    pub(crate) fn log_opened(&mut self, rlog: &Path) -> Result<(), Error> {
        self.tally.log_began = self.tally.totals();
        self.add(Entry::Log { path: rlog.to_string_lossy().into_owned(), totals: self.tally.log_began })
    }

    /// Before a process is started. What is spent after it must not be forgotten, even by a loss of power.
    pub(crate) fn starting(&mut self, session: &str, task: Option<i64>) -> Result<(), Error> {
        let session_total = self.db.session_micros(session);
        self.tally.start(*session_total.as_ref().unwrap_or(&0));
        self.add(Entry::Start { session: session.to_owned(), task })?;
        session_total.map(|_| ())
    }

    /// An answer begins: from here on it is charged for.
    pub(crate) fn begun(&mut self, id: &str, model: &str, main: bool, usage: Usage) -> Result<(), Error> {
        if self.tally.answers.contains_key(id) { Ok(()) } else { self.write_use(id, model, main, usage, (false, true)) }
    }

    /// A piece of an answer. Says whether it is the first.
    pub(crate) fn answered(&mut self, id: &str, model: &str, main: bool, usage: Usage) -> (bool, Result<(), Error>) {
        let Some(known) = self.tally.answers.get_mut(id) else {
            return (true, self.write_use(id, model, main, usage, (true, false)));
        };
        let new = !std::mem::replace(&mut known.heard, true);
        let is_open = known.is_open;
        let written =
            if known.usage == usage { Ok(()) } else { self.write_use(id, model, main, usage, (true, is_open)) };
        (new, written)
    }

    /// The final counts of an answer that was told before: the larger figure of each kind holds.
    pub(crate) fn finished(&mut self, id: &str, usage: Usage) -> Result<(), Error> {
        let Some(answer) = self.tally.answers.get(id).cloned() else { return Ok(()) };
        let usage = Usage {
            input_tokens: answer.usage.input_tokens.max(usage.input_tokens),
            output_tokens: answer.usage.output_tokens.max(usage.output_tokens),
            cache_write_tokens: answer.usage.cache_write_tokens.max(usage.cache_write_tokens),
            cache_read_tokens: answer.usage.cache_read_tokens.max(usage.cache_read_tokens),
        };
        if usage == answer.usage && !answer.is_open {
            return Ok(());
        }
        self.tally.longest = self.tally.longest.max(usage.output_tokens);
        self.write_use(id, &answer.model, answer.main, usage, (answer.heard, false))
    }

    /// Whether this answer is one of the main agent.
    pub(crate) fn is_main(&self, id: &str) -> bool {
        self.tally.answers.get(id).is_some_and(|answer| answer.main)
    }

    pub(crate) fn result(&mut self, ending: &Ending<'_>) -> Result<(), Error> {
        let (cost_micros, total_micros) = (ending.cost_usd.and_then(micros), ending.total_cost_usd.and_then(micros));
        let prices: Vec<Price> = ending.models.iter().filter_map(price).collect();
        let corrects = prices.iter().any(|price| !self.prices.contains_key(&price.model));
        self.tally.result(cost_micros, total_micros);
        self.prices.extend(prices.iter().map(|price| (price.model.clone(), price.clone())));
        self.add(Entry::Result { cost_micros, total_micros, prices })?;
        if corrects {
            self.tally.settled_micros = self.db.account(&self.account)?.totals.cost_micros;
        }
        Ok(())
    }

    /// The process has died, or its worker before it, while it waited for an answer.
    pub(crate) fn unanswered(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.tally.unanswered, true) {
            return Ok(());
        }
        let newest = self.db.newest_answer(&self.account)?;
        let (model, thought_micros) = match newest {
            Some((model, tokens)) => {
                let micros = self.thought_micros(&model, usage(tokens));
                (model, micros)
            }
            None => (String::new(), 0),
        };
        self.tally.settled_micros += thought_micros;
        self.tally.unpriced += u64::from(model.is_empty());
        self.add(Entry::Unanswered { model, thought_micros })
    }

    fn thought_micros(&self, model: &str, usage: Usage) -> u64 {
        let listed = listed_micros(model, usage);
        self.prices.get(model).map_or(listed, |price| price.of(listed))
    }

    fn write_use(
        &mut self,
        id: &str,
        model: &str,
        main: bool,
        usage: Usage,
        (heard, is_open): (bool, bool),
    ) -> Result<(), Error> {
        let output_tokens = if is_open { usage.output_tokens.max(self.tally.longest) } else { usage.output_tokens };
        let unsettled_micros = self.thought_micros(model, Usage { output_tokens, ..usage });
        self.tally.answer(id, Answer { model: model.to_owned(), usage, main, unsettled_micros, heard, is_open });
        self.add(use_entry(id, model, main, usage, unsettled_micros))
    }

    fn add(&mut self, entry: Entry) -> Result<(), Error> {
        if self.unwritten.len() == MAX_UNWRITTEN {
            self.unwritten.remove(0);
        }
        // What was refused goes first, once there is space again: all in one transaction.
        self.unwritten.push(entry);
        self.db.record(&self.account, &self.unwritten, os::clock::wall_ms())?;
        self.unwritten.clear();
        Ok(())
    }
}

fn use_entry(id: &str, model: &str, main: bool, usage: Usage, thought_micros: u64) -> Entry {
    let tokens = Tokens {
        input: usage.input_tokens,
        output: usage.output_tokens,
        cache_write: usage.cache_write_tokens,
        cache_read: usage.cache_read_tokens,
    };
    Entry::Use { message: id.to_owned(), model: model.to_owned(), main, tokens, thought_micros }
}

fn usage(tokens: Tokens) -> Usage {
    let Tokens { input, output, cache_write, cache_read } = tokens;
    Usage { input_tokens: input, output_tokens: output, cache_write_tokens: cache_write, cache_read_tokens: cache_read }
}

/// What the agent says of a model, if that tells a price.
fn price(told: &ModelCost<'_>) -> Option<Price> {
    let told_micros = told.cost_usd.and_then(micros).filter(|micros| *micros > 0)?;
    let listed_micros = Some(listed_micros(&told.model, told.usage)).filter(|micros| *micros > 0)?;
    Some(Price { model: told.model.clone().into_owned(), told_micros, listed_micros })
}

/// Dollars as millionths, rounded up: a budget is a bound.
#[must_use]
pub(crate) fn micros(usd: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and only non-negative finite numbers arrive here"
    )]
    // The CLI sums in binary fractions: 0.0022199999999999998 is 2220 millionths.
    (usd.is_finite() && usd >= 0.0).then(|| (usd * 1_000_000.0 - 1e-6).ceil().max(0.0) as u64)
}

/// Millionths of a dollar as dollars.
#[must_use]
pub fn dollars(micros: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to nine billion dollars")]
    let micros = micros as f64;
    micros / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use wire::claude::{Decoded, Message, decode};

    use super::*;

    const USAGE: Usage = Usage { input_tokens: 100, output_tokens: 1, cache_write_tokens: 0, cache_read_tokens: 0 };

    fn spent(turns: u64, cost_micros: u64) -> Spent {
        Spent { turns, cost_micros, ..Spent::default() }
    }

    fn told(cost_usd: Option<f64>, total_cost_usd: Option<f64>) -> Ending<'static> {
        Ending { cost_usd, total_cost_usd, ..ending() }
    }

    fn ending() -> Ending<'static> {
        let Decoded::Message(Message::Result(ending)) = decode(br#"{"type":"result"}"#) else { panic!("a result") };
        ending
    }

    fn replayed(folder: &Path) -> (Spent, Totals) {
        let ledger = Ledger::open(folder, "job").unwrap();
        (ledger.spent(), ledger.log_totals())
    }

    #[test]
    fn what_was_spent_survives_restarts_and_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut ledger = Ledger::open(path, "job").unwrap();
        ledger.log_opened(Path::new("a.rlog")).unwrap();
        ledger.starting("s1", None).unwrap();
        for expected in [true, false] {
            let (new, written) = ledger.answered("m1", "claude-sonnet-5-5", true, USAGE);
            written.unwrap();
            assert_eq!(new, expected);
        }
        ledger.finished("m1", Usage { output_tokens: 50, ..Usage::default() }).unwrap();
        // Subagents cost, but their answers are no turns.
        ledger.answered("m2", "claude-haiku-4-5", false, USAGE).1.unwrap();
        let estimate = 100 * 3 + 50 * 15 + 100 + 5;
        assert_eq!(ledger.spent(), spent(1, estimate));
        assert_eq!(replayed(path).0, spent(1, estimate));
        ledger.result(&told(Some(0.0005), Some(0.0005))).unwrap();
        assert_eq!(ledger.spent(), spent(1, 500));
        // The second process dies without a result: its answers are priced.
        ledger.starting("s1", None).unwrap();
        ledger.answered("m3", "claude-sonnet-5-5", true, USAGE).1.unwrap();
        let totals = Totals { tokens_in: 300, tokens_out: 52, cost_micros: 815 };
        assert_eq!((ledger.spent(), ledger.log_totals()), (spent(2, 500 + 315), totals));
        assert_eq!(replayed(path), (spent(2, 815), totals));
        // The third resumes the session, in another worker; an older CLI tells only the session's total.
        let mut ledger = Ledger::open(path, "job").unwrap();
        ledger.starting("s1", None).unwrap();
        ledger.answered("m4", "claude-sonnet-5-5", true, USAGE).1.unwrap();
        ledger.result(&told(None, Some(0.0009))).unwrap();
        assert_eq!(ledger.spent(), spent(3, 815 + 400));
        // A new log begins at nothing.
        ledger.log_opened(Path::new("b.rlog")).unwrap();
        assert_eq!(replayed(path), (spent(3, 1_215), Totals::default()));
        assert_eq!(Ledger::open(path, "other job").unwrap().spent(), Spent::default());
    }

    #[test]
    fn a_result_without_a_cost_leaves_what_was_thought() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), "job").unwrap();
        ledger.starting("s", None).unwrap();
        ledger.answered("m1", "claude-opus-4", true, USAGE).1.unwrap();
        ledger.result(&told(Some(0.0), Some(0.0))).unwrap();
        // A second result of the same process, in which something was done in the background.
        ledger.answered("m2", "claude-opus-4", true, USAGE).1.unwrap();
        ledger.result(&told(Some(0.002), Some(0.002))).unwrap();
        let thought = 100 * 15 + 75;
        assert_eq!(ledger.spent(), spent(2, thought + 2_000));
        assert_eq!(replayed(folder.path()).0, spent(2, thought + 2_000));
    }

    #[test]
    fn an_answer_counts_from_its_beginning_and_is_new_when_it_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), "job").unwrap();
        ledger.starting("s", None).unwrap();
        ledger.begun("m1", "claude-sonnet-5-5", true, USAGE).unwrap();
        assert_eq!(replayed(folder.path()).0, spent(1, 315));
        for expected in [true, false] {
            let (new, written) = ledger.answered("m1", "claude-sonnet-5-5", true, USAGE);
            written.unwrap();
            assert_eq!(new, expected);
        }
        ledger.begun("m1", "claude-sonnet-5-5", true, Usage::default()).unwrap();
        assert_eq!(ledger.spent(), spent(1, 315));
    }

    #[test]
    fn an_answer_that_is_cut_off_counts_like_the_longest_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), "job").unwrap();
        ledger.starting("s", None).unwrap();
        ledger.begun("m1", "claude-sonnet-5-5", true, USAGE).unwrap();
        ledger.finished("m1", Usage { output_tokens: 50, ..USAGE }).unwrap();
        ledger.begun("m2", "claude-sonnet-5-5", true, USAGE).unwrap();
        ledger.answered("m2", "claude-sonnet-5-5", true, USAGE).1.unwrap();
        let (finished, whole) = (300 + 750, 300 + 750);
        assert_eq!(ledger.spent(), spent(2, finished + whole));
        let mut ledger = Ledger::open(folder.path(), "job").unwrap();
        assert_eq!(ledger.spent(), spent(2, finished + whole));
        ledger.starting("s", None).unwrap();
        ledger.begun("m3", "claude-sonnet-5-5", true, USAGE).unwrap();
        assert_eq!(ledger.spent(), spent(3, finished + whole + whole), "the next worker knows how long");
        ledger.finished("m3", Usage { output_tokens: 2, ..USAGE }).unwrap();
        assert_eq!(ledger.spent(), spent(3, finished + whole + 300 + 30), "until it is told");
    }

    #[test]
    fn a_request_whose_answer_nobody_saw_counts_like_the_answer_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), "job").unwrap();
        // The very first one has none before it: it is priced when there is one.
        ledger.starting("s", None).unwrap();
        ledger.unanswered().unwrap();
        ledger.unanswered().unwrap();
        assert_eq!(ledger.spent(), Spent::default());
        ledger = Ledger::open(folder.path(), "job").unwrap();
        ledger.starting("s", None).unwrap();
        ledger.answered("m1", "claude-sonnet-5-5", true, USAGE).1.unwrap();
        assert_eq!(ledger.spent(), spent(1, 630), "once for a process, however often it is told");
        assert_eq!(replayed(folder.path()).0, spent(1, 630));
        ledger.unanswered().unwrap();
        assert_eq!(replayed(folder.path()).0, spent(1, 945));
        assert_eq!(ledger.db.unanswered_since(0).unwrap(), (2, 630));
        assert_eq!(ledger.db.spent_since(0).unwrap(), 945);
    }

    #[test]
    fn the_agents_first_word_on_a_price_corrects_what_was_thought_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), "job").unwrap();
        ledger.starting("s", None).unwrap();
        ledger.answered("m1", "claude-sonnet-5-5", true, USAGE).1.unwrap();
        ledger.unanswered().unwrap();
        assert_eq!(ledger.spent(), spent(1, 630));
        ledger.starting("s", None).unwrap();
        ledger.answered("m2", "claude-sonnet-5-5", true, USAGE).1.unwrap();
        let models = vec![ModelCost { model: "claude-sonnet-5-5".into(), usage: USAGE, cost_usd: Some(0.00021) }];
        ledger.result(&Ending { models, ..told(Some(0.00021), Some(0.00021)) }).unwrap();
        assert_eq!(ledger.spent(), spent(2, 630), "three answers at $2 and $10");
        assert_eq!(replayed(folder.path()).0, spent(2, 630));
        let mut ledger = Ledger::open(folder.path(), "job").unwrap();
        ledger.starting("s", None).unwrap();
        ledger.answered("m3", "claude-sonnet-5-5", true, USAGE).1.unwrap();
        assert_eq!(ledger.spent(), spent(3, 840));
    }

    #[test]
    fn a_disk_that_refuses_forgets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), "job").unwrap();
        let refuse = "CREATE TRIGGER full BEFORE INSERT ON process BEGIN SELECT RAISE(ABORT, 'disk full'); END";
        let other = rusqlite::Connection::open(folder.path().join("queue.db")).unwrap();
        other.execute_batch(refuse).unwrap();
        assert!(ledger.starting("s", None).is_err());
        assert!(ledger.answered("m1", "claude-opus-4", true, USAGE).1.is_err());
        assert_eq!(ledger.spent().turns, 1);
        assert_eq!(replayed(folder.path()).0.turns, 0);
        other.execute_batch("DROP TRIGGER full").unwrap();
        ledger.answered("m2", "claude-opus-4", true, USAGE).1.unwrap();
        assert_eq!(replayed(folder.path()).0, ledger.spent());
        assert_eq!(ledger.spent().turns, 2);
    }

    #[test]
    fn all_jobs_and_the_queue_share_the_budgets_of_days() {
        let folder = tempfile::tempdir().unwrap();
        for account in ["job", QUEUE_ACCOUNT] {
            let mut ledger = Ledger::open(folder.path(), account).unwrap();
            ledger.starting(account, Some(3)).unwrap();
            ledger.answered("m", "claude-opus-4", true, USAGE).1.unwrap();
            ledger.result(&told(Some(0.25), Some(0.25))).unwrap();
        }
        let mut ledger = Ledger::open(folder.path(), QUEUE_ACCOUNT).unwrap();
        let day = Stretch { begins_ms: os::clock::wall_ms() - 1_000_000, ends_ms: u64::MAX };
        let before = Stretch { begins_ms: os::clock::wall_ms() + 1_000_000, ends_ms: u64::MAX };
        let budgets = Budgets { daily_micros: 1_000_000, weekly_micros: 0, monthly_micros: 2_000_000 };
        let windows = ledger.windows(budgets, [day, day, before], |_| 7).unwrap();
        let window = |limit_micros, spent_micros| Window { limit_micros, spent_micros, ends_at_ms: 7 };
        assert_eq!(windows, [window(1_000_000, 500_000), Window::default(), window(2_000_000, 0)]);
        assert_eq!(ledger.db.cost_of_tasks().unwrap(), [(3, 500_000)]);
        // A reset counts for all, and for a worker that runs.
        ledger.db.reset_budget(os::clock::wall_ms() + 5).unwrap();
        ledger.look_for_reset().unwrap();
        assert_eq!(ledger.spent(), Spent::default());
        assert_eq!(ledger.windows(budgets, [day, day, day], |_| 7).unwrap()[0], window(1_000_000, 0));
        assert_eq!(ledger.db.cost_of_tasks().unwrap(), [(3, 500_000)], "what it has cost stays known");
    }

    #[test]
    fn dollars_round_up_to_millionths() {
        for (usd, expected) in [
            (0.0, Some(0)),
            (0.0022199999999999998, Some(2_220)),
            (0.00148, Some(1_480)),
            (0.000_000_2, Some(1)),
            (5.0, Some(5_000_000)),
            (f64::NAN, None),
            (-1.0, None),
        ] {
            assert_eq!(micros(usd), expected, "{usd}");
        }
        assert!((dollars(1_480) - 0.00148).abs() < 1e-12);
    }
}
