//! What the daemon writes or says goes through here first: the journal, `status`, the terminal, the evidence of an incident.
//!
//! Made at the first word. What a worker prints itself is not looked through: it goes from its pipe into the file without
//! passing through the daemon, and our worker looks itself.

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::OnceLock;

use wire::redact::Redactor;

static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// The values of the secret-looking variables among these are to be written nowhere. To be called once, before the first
/// word.
pub fn keep_secret(environment: &[(OsString, OsString)]) {
    let variables = environment.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    // Somebody who calls it twice is told no more than the first time.
    REDACTOR.get_or_init(|| Redactor::with_environment(variables));
}

fn redactor() -> &'static Redactor {
    REDACTOR.get_or_init(Redactor::default)
}

pub(crate) fn without(text: &str) -> Cow<'_, str> {
    redactor().text(text)
}

pub(crate) fn without_in_bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    redactor().bytes(bytes)
}
