//! What tokens cost, for the one case in which the CLI can't say: it died before its result.
//!
//! List prices per million tokens at the time of writing. An estimate must not let a budget be exceeded, so every family has
//! the price of its dearest member, and an unknown model that of the dearest family.

use wire::claude::Usage;

struct Price {
    family: &'static str,
    /// Dollars per million tokens = millionths of a dollar per token.
    input: u64,
    output: u64,
}

const DEAREST: Price = Price { family: "", input: 15, output: 75 };

const PRICES: [Price; 3] = [
    Price { family: "haiku", input: 1, output: 5 },
    Price { family: "sonnet", input: 3, output: 15 },
    Price { family: "opus", input: 15, output: 75 },
];

/// Millionths of a dollar for these tokens. Writing to the cache costs up to twice, reading from it a tenth of the input.
#[must_use]
pub(crate) fn listed_micros(model: &str, usage: Usage) -> u64 {
    let price = PRICES.iter().find(|price| model.contains(price.family)).unwrap_or(&DEAREST);
    let input = usage.input_tokens.saturating_add(usage.cache_write_tokens.saturating_mul(2));
    input
        .saturating_mul(price.input)
        .saturating_add(usage.cache_read_tokens.saturating_mul(price.input).div_ceil(10))
        .saturating_add(usage.output_tokens.saturating_mul(price.output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_never_below_what_the_cli_would_have_said() {
        let usage = Usage { input_tokens: 240, output_tokens: 84, cache_write_tokens: 60, cache_read_tokens: 100 };
        // The CLI's own figure in the recording of a success.
        assert!(listed_micros("claude-sonnet-5-5", usage) >= 1_480);
        assert!(listed_micros("claude-haiku-4-5", usage) < listed_micros("claude-sonnet-5-5", usage));
        assert_eq!(listed_micros("something-new", usage), listed_micros("claude-opus-4-1", usage));
    }
}
