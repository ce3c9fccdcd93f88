//! Numbers in flags. Strict, because clap's own parsers accept `nan` for a budget.

/// The most that the settings accept; exact as micro-dollars.
const MAX_BUDGET_USD: f64 = 1e9;

/// Dollars; 0 = no limit.
pub(super) fn budget(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_start_matches('$').parse().ok();
    // A NaN is in no range. Adding zero turns -0.0 into 0.0.
    let number = number.filter(|number| (0.0..=MAX_BUDGET_USD).contains(number)).map(|number: f64| number + 0.0);
    number.ok_or_else(|| "wants dollars, 0 or more, for example 2.50 (0 = no limit)".to_owned())
}

/// The most that is asked for in one argument, as in the settings.
const MAX_PROMPT_BYTES: usize = 100_000;

/// What names something, here and on the agent's command line.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.starts_with('-') || text.contains(char::is_control) {
        return Err("wants text that does not start with a dash".to_owned());
    }
    Ok(text.to_owned())
}

/// What is to be done. An empty one is none.
pub(super) fn prompt(text: &str) -> Result<String, String> {
    if text.len() > MAX_PROMPT_BYTES {
        return Err(format!(
            "wants at most {MAX_PROMPT_BYTES} bytes: put the details into a file of the project, and name that file"
        ));
    }
    Ok(text.to_owned())
}

/// A number of turns; 0 = no limit. Fits the settings' integers, which are TOML's.
pub(super) fn turns(text: &str) -> Result<u64, String> {
    let number = text.trim().parse().ok().and_then(|number: i64| u64::try_from(number).ok());
    number.ok_or_else(|| "wants a whole number, 0 or more (0 = no limit)".to_owned())
}
