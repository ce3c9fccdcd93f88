//! What went wrong in the CLI's own words, for versions that say it in no other way.
//!
//! As with [`super::limit`]: only ever to be asked about what the CLI itself said, and only where no token says it. Each wording is
//! told by its beginning, since a model's sentence may contain any of them.

/// In the stream's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Complaint {
    /// As in `assistant.error`; `prompt_too_long` as in `terminal_reason`.
    pub kind: &'static str,
    /// As in `api_error`.
    pub detail: Option<&'static str>,
    /// HTTP.
    pub status: Option<u16>,
}

const LOGIN: [&str; 6] = [
    "invalid api key",
    "not logged in",
    "please run /login",
    "oauth token has expired",
    "oauth token revoked",
    "failed to authenticate",
];

/// `None`: nothing that is known.
#[must_use]
pub fn complaint(text: &str) -> Option<Complaint> {
    let line = text.trim().lines().next()?.to_ascii_lowercase();
    let of_kind = |kind| Some(Complaint { kind, ..Complaint::default() });
    if LOGIN.iter().any(|words| line.starts_with(words)) {
        return of_kind("authentication_failed");
    }
    if line.starts_with("credit balance is too low") || line.starts_with("your credit balance is too low") {
        return of_kind("billing_error");
    }
    if line.starts_with("there's an issue with the selected model") {
        return of_kind("model_not_found");
    }
    if line.starts_with("prompt is too long") {
        return of_kind("prompt_too_long");
    }
    let organisation = line.strip_prefix("this ").or_else(|| line.strip_prefix("your "));
    if organisation.is_some_and(|rest| rest.starts_with("organization has been disabled")) {
        return Some(Complaint {
            kind: "invalid_request",
            detail: Some("org_disabled_credential"),
            ..Complaint::default()
        });
    }
    let rest = line.strip_prefix("api error")?.trim_start_matches([':', ' ', '(']);
    let digits = rest.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(status) => {
            let kind = if status == 429 { "rate_limit" } else { "unknown" };
            Some(Complaint { kind, detail: None, status: Some(status) })
        }
        None if rest.starts_with("connection error") || rest.contains("fetch failed") => {
            Some(Complaint { kind: "server_error", detail: Some("connection_failed"), status: None })
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clis_words_become_its_tokens() {
        let tokens = |text| complaint(text).map(|complaint| (complaint.kind, complaint.detail, complaint.status));
        for text in ["Invalid API key · Please run /login", "Not logged in · Please run /login", "Please run /login"]
        {
            assert_eq!(tokens(text), Some(("authentication_failed", None, None)), "{text}");
        }
        assert_eq!(tokens("Credit balance is too low"), Some(("billing_error", None, None)));
        assert_eq!(tokens("There's an issue with the selected model (x). …"), Some(("model_not_found", None, None)));
        assert_eq!(tokens("Prompt is too long · …"), Some(("prompt_too_long", None, None)));
        let disabled = Some(("invalid_request", Some("org_disabled_credential"), None));
        assert_eq!(tokens("This organization has been disabled."), disabled);
        assert_eq!(tokens("API Error: 529 Overloaded. …"), Some(("unknown", None, Some(529))));
        assert_eq!(tokens("API Error (500 …)"), Some(("unknown", None, Some(500))));
        assert_eq!(tokens("API Error: Request rejected (429) · …"), None);
        assert_eq!(tokens("API Error: Connection error."), Some(("server_error", Some("connection_failed"), None)));
        for text in
            ["", "I could not log in: invalid api key", "The credit balance is too low", "API errors: 500 of them"]
        {
            assert_eq!(tokens(text), None, "{text}");
        }
    }
}
