//! Texts of unknown origin, made fit for one line of a terminal.

/// What stands for a line break.
const BREAK: &str = "⏎ ";

/// `text` on one line: breaks made visible, escape sequences removed, control characters shown as pictures, cut on a character
/// boundary after `max_chars`, with a count of what was cut.
pub(super) fn inline(text: &str, max_chars: usize) -> String {
    let text = text.trim_end();
    let mut out = String::with_capacity(text.len().min(max_chars * 2));
    let mut chars = text.chars().peekable();
    let mut taken = 0;
    while let Some(char) = chars.next() {
        if taken >= max_chars {
            let cut = chars.count() + 1;
            out.push_str(&format!(" …[+{cut} chars]"));
            break;
        }
        taken += 1;
        match char {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push_str(BREAK),
            '\t' => out.push(' '),
            '\u{1b}' => escape_sequence(&mut chars, &mut out),
            char => out.push(visible(char)),
        }
    }
    out
}

/// As [`inline`], in double quotes.
pub(super) fn quoted(text: &str, max_chars: usize) -> String {
    format!("\"{}\"", inline(text, max_chars).replace('\\', "\\\\").replace('"', "\\\""))
}

/// One word: what could end it is replaced.
pub(super) fn token(text: &str) -> String {
    let word: String = text
        .chars()
        .take(120)
        .map(|char| if char.is_whitespace() || visible(char) != char { '_' } else { char })
        .collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

fn visible(char: char) -> char {
    match char {
        // The pictures of the C0 characters lie in order from U+2400.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + char as u32).unwrap_or('�'),
        '\u{7f}' => '␡',
        // C1 characters, and those that turn the direction of a terminal's text.
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '�',
        other => other,
    }
}

/// Skips a sequence of ECMA-48 after its ESC: CSI (colours, cursor) and OSC (titles, links). Anything else loses only its ESC.
fn escape_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            while let Some(' '..='?') = chars.peek() {
                chars.next();
            }
            if let Some('@'..='~') = chars.peek() {
                chars.next();
            }
        }
        Some(']') => {
            // An OSC without its end must not swallow the text: it can hold no line break.
            while let Some(&char) = chars.peek() {
                if char == '\n' {
                    return;
                }
                chars.next();
                if char == '\u{7}' {
                    return;
                }
                if char == '\u{1b}' {
                    if chars.peek() == Some(&'\\') {
                        chars.next();
                    }
                    return;
                }
            }
        }
        _ => out.push('␛'),
    }
}
