//! Secrets that say by a prefix whose they are.

use super::{Span, begins_word, looks_random, run};

/// What may follow a prefix.
#[derive(Clone, Copy)]
enum Tail {
    /// Letters and digits.
    Alnum,
    /// And `_`, `-`.
    Word,
    /// And `.`.
    Dotted,
}

impl Tail {
    fn fits(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric()
            || match self {
                Self::Alnum => false,
                Self::Word => matches!(byte, b'_' | b'-'),
                Self::Dotted => matches!(byte, b'_' | b'-' | b'.'),
            }
    }
}

struct Token {
    /// Its last byte is the one that is looked for: `_`, `-` or `.`.
    prefix: &'static str,
    /// The least that follows it.
    tail_min: usize,
    tail: Tail,
    kind: &'static str,
}

const fn token(prefix: &'static str, tail_min: usize, tail: Tail, kind: &'static str) -> Token {
    Token { prefix, tail_min, tail, kind }
}

/// Longer prefixes before shorter ones that end alike.
static TOKENS: [Token; 76] = [
    token("sk-ant-", 20, Tail::Word, "anthropic-key"),
    token("sk-proj-", 20, Tail::Word, "openai-key"),
    token("sk-svcacct-", 20, Tail::Word, "openai-key"),
    token("sk-admin-", 20, Tail::Word, "openai-key"),
    token("sk-or-v1-", 20, Tail::Word, "openrouter-key"),
    token("sk-", 32, Tail::Alnum, "openai-key"),
    token("github_pat_", 30, Tail::Word, "github-token"),
    token("ghp_", 30, Tail::Alnum, "github-token"),
    token("gho_", 30, Tail::Alnum, "github-token"),
    token("ghu_", 30, Tail::Alnum, "github-token"),
    token("ghs_", 30, Tail::Dotted, "github-token"),
    token("ghr_", 30, Tail::Alnum, "github-token"),
    token("glpat-", 20, Tail::Dotted, "gitlab-token"),
    token("gldt-", 20, Tail::Word, "gitlab-token"),
    token("glrt-", 20, Tail::Dotted, "gitlab-token"),
    token("glcbt-", 20, Tail::Word, "gitlab-token"),
    token("glptt-", 20, Tail::Word, "gitlab-token"),
    token("glft-", 20, Tail::Word, "gitlab-token"),
    token("glsoat-", 20, Tail::Word, "gitlab-token"),
    token("glagent-", 20, Tail::Word, "gitlab-token"),
    token("gloas-", 20, Tail::Word, "gitlab-token"),
    token("xoxb-", 20, Tail::Word, "slack-token"),
    token("xoxp-", 20, Tail::Word, "slack-token"),
    token("xoxa-", 20, Tail::Word, "slack-token"),
    token("xoxr-", 20, Tail::Word, "slack-token"),
    token("xoxs-", 20, Tail::Word, "slack-token"),
    token("xoxc-", 20, Tail::Word, "slack-token"),
    token("xoxd-", 20, Tail::Word, "slack-token"),
    token("xoxe-", 20, Tail::Word, "slack-token"),
    token("xoxe.", 20, Tail::Dotted, "slack-token"),
    token("xapp-", 20, Tail::Word, "slack-token"),
    token("sk_live_", 16, Tail::Alnum, "stripe-key"),
    token("rk_live_", 16, Tail::Alnum, "stripe-key"),
    token("sk_test_", 16, Tail::Alnum, "stripe-key"),
    token("rk_test_", 16, Tail::Alnum, "stripe-key"),
    token("whsec_", 20, Tail::Alnum, "webhook-secret"),
    token("npm_", 36, Tail::Alnum, "npm-token"),
    token("pypi-", 50, Tail::Word, "pypi-token"),
    token("hf_", 30, Tail::Alnum, "huggingface-token"),
    token("gsk_", 40, Tail::Alnum, "groq-key"),
    token("xai-", 40, Tail::Alnum, "xai-key"),
    token("pplx-", 40, Tail::Alnum, "perplexity-key"),
    token("dop_v1_", 40, Tail::Alnum, "digitalocean-token"),
    token("doo_v1_", 40, Tail::Alnum, "digitalocean-token"),
    token("dor_v1_", 40, Tail::Alnum, "digitalocean-token"),
    token("shpat_", 32, Tail::Alnum, "shopify-token"),
    token("shpss_", 32, Tail::Alnum, "shopify-token"),
    token("dckr_pat_", 20, Tail::Word, "docker-token"),
    token("lin_api_", 30, Tail::Alnum, "linear-key"),
    token("tskey-", 20, Tail::Word, "tailscale-key"),
    token("GOCSPX-", 20, Tail::Word, "google-secret"),
    token("ya29.", 30, Tail::Word, "google-token"),
    token("SG.", 40, Tail::Dotted, "sendgrid-key"),
    token("hvs.", 20, Tail::Word, "vault-token"),
    token("AGE-SECRET-KEY-", 40, Tail::Alnum, "age-key"),
    token("r8_", 36, Tail::Alnum, "replicate-token"),
    token("nvapi-", 40, Tail::Word, "nvidia-key"),
    token("PMAK-", 40, Tail::Word, "postman-key"),
    token("sq0atp-", 20, Tail::Word, "square-token"),
    token("sq0csp-", 40, Tail::Word, "square-token"),
    token("ntn_", 36, Tail::Alnum, "notion-token"),
    token("secret_", 40, Tail::Alnum, "notion-token"),
    token("sntrys_", 40, Tail::Word, "sentry-token"),
    token("sntryu_", 40, Tail::Alnum, "sentry-token"),
    token("figd_", 36, Tail::Word, "figma-token"),
    token("NRAK-", 27, Tail::Alnum, "newrelic-key"),
    token("dp.pt.", 40, Tail::Alnum, "doppler-token"),
    token("glsa_", 36, Tail::Word, "grafana-token"),
    token("sbp_", 40, Tail::Alnum, "supabase-token"),
    token("pscale_tkn_", 32, Tail::Dotted, "planetscale-token"),
    token("pscale_pw_", 32, Tail::Dotted, "planetscale-token"),
    token("rubygems_", 48, Tail::Alnum, "rubygems-key"),
    token("fo1_", 40, Tail::Word, "fly-token"),
    token("pul-", 40, Tail::Alnum, "pulumi-token"),
    token("tvly-", 28, Tail::Word, "tavily-key"),
    token("fw_", 22, Tail::Alnum, "fireworks-key"),
];

/// By the last three bytes of a prefix: the first that ends so, counted from 1; nearly always there is none.
static ENDS: [u8; ENDS_SIZE] = {
    let mut table = [0; ENDS_SIZE];
    let mut at = TOKENS.len();
    while at > 0 {
        at -= 1;
        table[end_of(at)] = number(at);
    }
    table
};

/// The next prefix after each that ends alike.
static NEXT: [u8; TOKENS.len()] = {
    let (mut table, mut last) = ([0; TOKENS.len()], [0; ENDS_SIZE]);
    let mut at = TOKENS.len();
    while at > 0 {
        at -= 1;
        table[at] = last[end_of(at)];
        last[end_of(at)] = number(at);
    }
    table
};

#[expect(clippy::cast_possible_truncation, reason = "there are fewer: it is looked at")]
const fn number(at: usize) -> u8 {
    assert!(at < 255);
    at as u8 + 1
}

const fn end_of(at: usize) -> usize {
    let prefix = TOKENS[at].prefix.as_bytes();
    let length = prefix.len();
    end(prefix[length - 3], prefix[length - 2], prefix[length - 1])
}

const ENDS_SIZE: usize = 4096;

/// Of letters the lower five bits differ, of the three marks the lower two.
const fn end(first: u8, second: u8, third: u8) -> usize {
    ((first as usize & 31) << 7) | ((second as usize & 31) << 2) | (third as usize & 3)
}

/// The name of a key, by which its secret is looked for.
pub(super) const AWS_KEY_ID: &str = "aws-key-id";

/// At the last byte of a prefix.
#[inline]
pub(super) fn at_mark(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let [first, second, third] = *bytes.get(at.checked_sub(2)?..=at)? else { return None };
    if second == b'k' && third == b'.' && bytes.get(at..at + 14).is_some_and(|here| here == b".com/services/") {
        return webhook(bytes, at);
    }
    if third == b'.' && bytes.get(at + 7) == Some(&b'.') {
        return discord(bytes, at).or_else(|| at_end(bytes, at));
    }
    match (second, third) {
        (b'y', b'-') => mailgun(bytes, at).or_else(|| at_end(bytes, at)),
        _ if third == b'.' && at >= 17 && bytes.get(at - 17..at - 14) == Some(b"pat") => airtable(bytes, at),
        _ if ENDS[end(first, second, third)] != 0 => at_end(bytes, at),
        _ => None,
    }
}

/// `key-` and 32 digits in hex; no more of them, because caches have `key-` and longer hashes.
#[cold]
fn mailgun(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let start = at.checked_sub(3)?;
    let is_first = start.checked_sub(1).and_then(|at| bytes.get(at)).is_none_or(|byte| !b"-_".contains(byte));
    let tail = run(bytes, at + 1, |byte| byte.is_ascii_alphanumeric());
    let text = bytes.get(at + 1..at + 1 + tail)?;
    let is_hex = text.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let fits = tail == 32 && is_hex && is_first && bytes.get(start..at)? == b"key" && begins_word(bytes, start);
    fits.then_some(Span { start, end: at + 1 + tail, kind: "mailgun-key" })
}

/// `pat`, 14 letters and digits, and after the dot 64 digits in hex.
#[cold]
fn airtable(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let start = at.checked_sub(17)?;
    let tail = run(bytes, at + 1, |byte| byte.is_ascii_hexdigit());
    let fits = tail == 64 && run(bytes, start, |byte| byte.is_ascii_alphanumeric()) == 17 && begins_word(bytes, start);
    fits.then_some(Span { start, end: at + 1 + tail, kind: "airtable-token" })
}

/// A number in base64, six characters of time, and a signature, with dots between; at the first of them.
#[cold]
fn discord(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let word = |byte: &u8| Tail::Word.fits(*byte);
    let first = bytes.get(..at)?.iter().rev().take(40).take_while(|byte| word(byte)).count();
    // In JSON an escape's letter stands before the first word of a line.
    let is_escape = first < at && bytes.get(at - first - 1) == Some(&b'\\');
    let first = first - usize::from(is_escape && matches!(bytes.get(at - first), Some(b'n' | b'r' | b't')));
    let start = at - first;
    let tail = run(bytes, at + 8, |byte| Tail::Word.fits(byte));
    let begins = matches!(bytes.get(start), Some(b'M' | b'N' | b'O'));
    let fits = (24..=28).contains(&first) && (27..=38).contains(&tail) && begins;
    let fits = fits && run(bytes, at + 1, |byte| Tail::Word.fits(byte)) == 6;
    (fits && looks_random(bytes.get(start..at)?)).then_some(Span { start, end: at + 8 + tail, kind: "discord-token" })
}

#[cold]
fn at_end(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    let through = bytes.get(..=at)?;
    let [.., first, second, third] = *through else { return None };
    let alike = std::iter::successors(Some(ENDS[end(first, second, third)]), |number| {
        NEXT.get(usize::from(*number).checked_sub(1)?).copied()
    });
    let tokens = alike.map_while(|number| TOKENS.get(usize::from(number).checked_sub(1)?));
    tokens.filter(|token| through.ends_with(token.prefix.as_bytes())).find_map(|token| {
        let start = at + 1 - token.prefix.len();
        let tail = run(bytes, at + 1, |byte| token.tail.fits(byte));
        let text = bytes.get(at + 1..at + 1 + tail)?;
        // A sentence may go on after the token with a dot.
        let tail = tail - text.iter().rev().take_while(|byte| **byte == b'.').count();
        let fits = tail >= token.tail_min && looks_random(text) && begins_word(bytes, start);
        fits.then_some(Span { start, end: at + 1 + tail, kind: token.kind })
    })
}

/// `hooks.slack.com/services/T…/B…/…`: whoever knows the path may write.
fn webhook(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    if !bytes.get(..at)?.ends_with(b"slack") {
        return None;
    }
    let start = at + b".com/services/".len();
    let tail = run(bytes, start, |byte| byte.is_ascii_alphanumeric() || byte == b'/');
    let text = bytes.get(start..start + tail)?;
    (tail >= 20 && looks_random(text)).then_some(Span { start, end: start + tail, kind: "slack-webhook" })
}

/// At a letter that ends a prefix without a mark: `AKIA`, `AIza`, `eyJ`, `SK`.
pub(super) fn at_letter(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    fn start<const LENGTH: usize>(bytes: &[u8], at: usize, prefix: [u8; LENGTH]) -> Option<usize> {
        let start = (at + 1).checked_sub(LENGTH)?;
        let here: [u8; LENGTH] = bytes.get(start..=at)?.try_into().ok()?;
        (here == prefix && begins_word(bytes, start)).then_some(start)
    }
    match bytes.get(at)? {
        b'A' => {
            if bytes.get(at..at + 4) == Some(b"ATT3") {
                let begun = start(bytes, at, *b"ATA")?;
                let tail = run(bytes, at, |byte| Tail::Word.fits(byte) || byte == b'=');
                return (tail >= 50).then_some(Span { start: begun, end: at + tail, kind: "atlassian-token" });
            }
            let begun = start(bytes, at, *b"AKIA").or_else(|| start(bytes, at, *b"ASIA"))?;
            let tail = run(bytes, at + 1, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            let ends = bytes.get(at + 17).is_none_or(|next| !next.is_ascii_alphanumeric());
            (tail == 16 && ends).then_some(Span { start: begun, end: at + 17, kind: AWS_KEY_ID })
        }
        b'z' => {
            // `AIza`, and 35 more; a z is rarer than an a.
            let begun = start(bytes, at, *b"AIz").filter(|_| bytes.get(at + 1) == Some(&b'a'))?;
            let tail = run(bytes, at + 1, |byte| Tail::Word.fits(byte));
            (36..=41).contains(&tail).then_some(Span { start: begun, end: at + 1 + tail, kind: "google-key" })
        }
        b'J' => jwt(bytes, start(bytes, at, *b"eyJ")?),
        b'K' => {
            let begun = start(bytes, at, *b"SK")?;
            let tail = run(bytes, at + 1, |byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            let ends = bytes.get(at + 33).is_none_or(|next| !next.is_ascii_alphanumeric());
            (tail == 32 && ends).then_some(Span { start: begun, end: at + 33, kind: "twilio-key" })
        }
        _ => None,
    }
}

/// Three parts in base64, of which the first is a JSON object.
fn jwt(bytes: &[u8], start: usize) -> Option<Span<'static>> {
    let part = |at: usize| run(bytes, at, |byte| Tail::Word.fits(byte));
    let first = part(start);
    let second_at = start + first + 1;
    let second = part(second_at);
    let dot = |at: usize| bytes.get(at) == Some(&b'.');
    if first < 15 || second < 10 || !dot(start + first) {
        return None;
    }
    let before = bytes.get(start.saturating_sub(3)..start)?;
    if matches!(before, b"sk." | b"pk.") && begins_word(bytes, start - 3) {
        return Some(Span { start: start - 3, end: second_at + second, kind: "mapbox-token" });
    }
    if !dot(second_at + second) {
        return None;
    }
    let third_at = second_at + second + 1;
    Some(Span { start, end: third_at + part(third_at), kind: "jwt" })
}

/// `dapi` and 32 digits in hex, perhaps `-2` after them. There is no mark in them, so their digits are looked for: one look
/// every 32 bytes is enough to find so many in a row.
pub(super) fn databricks(bytes: &[u8], spans: &mut Vec<Span<'_>>) {
    const DIGITS: usize = 32;
    const PREFIX: &[u8] = b"dapi";
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let mut least = 0;
    while let Some(last) = bytes.get(least..least + DIGITS) {
        if let Some(other) = last.iter().rposition(|byte| !is_hex(*byte)) {
            least += other + 1;
            continue;
        }
        let start = least.saturating_sub(PREFIX.len());
        let digits = run(bytes, least, is_hex);
        let mut end = least + digits;
        let ends = bytes.get(end).is_none_or(|next| !next.is_ascii_alphanumeric());
        let is_prefixed = bytes.get(start..least) == Some(PREFIX) && begins_word(bytes, start);
        if digits == DIGITS && ends && is_prefixed {
            if let Some([b'-', version, ..]) = bytes.get(end..)
                && version.is_ascii_digit()
            {
                end += 2;
            }
            spans.push(Span { start, end, kind: "databricks-token" });
        }
        least = end;
    }
}

/// `123456789:AA…`, at the colon.
pub(super) fn telegram(bytes: &[u8], at: usize) -> Option<Span<'static>> {
    if bytes.get(at + 1..at + 3)? != b"AA" {
        return None;
    }
    let tail = run(bytes, at + 1, |byte| Tail::Word.fits(byte));
    let digits = bytes.get(..at)?.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let start = at - digits;
    // In a URL of its API it follows the word `bot`.
    let fits = (34..=36).contains(&tail) && (8..=10).contains(&digits);
    fits.then_some(Span { start, end: at + 1 + tail, kind: "telegram-token" })
}

/// The secret that goes with an AWS key's id wherever they stand together: 40 characters of base64, within a few lines.
pub(super) fn aws_secret_after(bytes: &[u8], id_end: usize) -> Option<Span<'static>> {
    const NEAR_BYTES: usize = 160;
    const LENGTH: usize = 40;
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+');
    let mut at = id_end;
    while at < id_end + NEAR_BYTES && at < bytes.len() {
        let length = run(bytes, at, base64);
        let mut start = at;
        // In JSON the line's end before it is an escape whose letter looks like its first.
        if length == LENGTH + 1 && at > 0 && bytes.get(at - 1) == Some(&b'\\') {
            start += 1;
        }
        let text = bytes.get(start..at + length)?;
        let any = |test: fn(&u8) -> bool| text.iter().any(test);
        if text.len() == LENGTH && any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase) {
            return Some(Span { start, end: start + LENGTH, kind: "aws-secret-key" });
        }
        at += length.max(1);
    }
    None
}
