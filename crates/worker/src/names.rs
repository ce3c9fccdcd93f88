//! Names for files and sessions, made from what people and chance say.

use std::path::Path;

/// The folder name of a project: its name if that is fit for a file, a safe form of it with a mark otherwise, and without
/// a name one that belongs to the working directory.
#[must_use]
pub fn project_slug(project: Option<&str>, canonical_cwd: &Path) -> String {
    let Some(name) = project else {
        return format!("cwd-{:016x}", fnv1a(canonical_cwd.as_os_str().as_encoded_bytes()));
    };
    let safe = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    let fit = (1..=64).contains(&name.len()) && name.chars().all(safe) && !name.starts_with('.');
    if fit && !name.starts_with("cwd-") {
        return name.to_owned();
    }
    // Two names that look alike once they are safe must not share a folder.
    let start: String = name.chars().take(40).map(|char| if safe(char) && char != '.' { char } else { '-' }).collect();
    format!("{start}-{:08x}", fnv1a(name.as_bytes()) >> 32)
}

/// The first words of a text, fit for a log's file name.
#[must_use]
pub(crate) fn log_slug(text: &str) -> String {
    let mut slug = String::new();
    for word in text.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        if slug.len() + word.len() > 40 {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(&word.to_ascii_lowercase());
    }
    if slug.is_empty() { "session".to_owned() } else { slug }
}

/// A random UUID (version 4, RFC 9562) from 16 random bytes.
#[must_use]
pub(crate) fn uuid_v4(random: [u8; 16]) -> String {
    let number = u128::from_be_bytes(random) & !(0xf << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{number:032x}");
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// FNV-1a, 64 bits: short, stable names that nobody attacks.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_one_folder_and_shares_it_with_nobody() {
        let cwd = Path::new("/home/ada/shop");
        assert_eq!(project_slug(Some("openagents"), cwd), "openagents");
        assert_eq!(project_slug(None, cwd), project_slug(None, cwd));
        let names =
            ["a/b", "a-b", "a.b", "a b", "", "..", ".", "../../etc", "ä", &"x".repeat(300), "cwd-0000000000000000"];
        let mut slugs: Vec<String> = names.iter().map(|name| project_slug(Some(name), cwd)).collect();
        slugs.push(project_slug(None, cwd));
        for slug in &slugs {
            assert!(slug.len() <= 64 && !slug.starts_with('.') && !slug.contains('/'), "{slug}");
        }
        slugs.sort();
        slugs.dedup();
        assert_eq!(slugs.len(), names.len() + 1);
    }

    #[test]
    fn a_log_is_named_after_what_it_is_about() {
        assert_eq!(log_slug("Fix the *login*, please!"), "fix-the-login-please");
        assert_eq!(log_slug("…"), "session");
        assert_eq!(log_slug(&"word ".repeat(50)), "word-word-word-word-word-word-word-word");
    }

    #[test]
    fn a_uuid_says_its_version() {
        assert_eq!(uuid_v4([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid_v4([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
