//! What the worker says of itself over its notify socket, sd_notify(3): `NAME=value` lines in a datagram.

/// One thing said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// `READY=1`
    Ready,
    /// `WATCHDOG=1`: alive.
    Alive,
    /// `STATUS=…`, for people.
    Message(String),
    /// `STOPPING=1`
    Stopping,
    /// `EXTEND_TIMEOUT_USEC=…`, in milliseconds from now.
    Extend { ms: u64 },
    /// `AUTOPILOT_PHASE=…`
    Phase(String),
    /// `AUTOPILOT_RLOG=…`: its log for people.
    Log(std::path::PathBuf),
    /// `AUTOPILOT_OUTPUT_LOST=…`, from the shim: so many bytes of the worker's output by now.
    OutputLost { bytes: u64 },
}

/// The shim's word, [`Said::OutputLost`].
pub(crate) const OUTPUT_LOST: &str = "AUTOPILOT_OUTPUT_LOST";

/// Longer values are cut: they are shown to people, and memory is bounded.
const MAX_VALUE_CHARS: usize = 500;

/// What a datagram says; what is not known is passed over.
pub(crate) fn parse(datagram: &[u8]) -> Vec<Said> {
    let text = String::from_utf8_lossy(datagram);
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Said> {
    let (name, value) = line.split_once('=')?;
    Some(match name {
        "READY" if value == "1" => Said::Ready,
        "WATCHDOG" if value == "1" => Said::Alive,
        "STOPPING" if value == "1" => Said::Stopping,
        "STATUS" => Said::Message(printable(value)),
        "AUTOPILOT_PHASE" => Said::Phase(printable(value)),
        "AUTOPILOT_RLOG" if value.starts_with('/') => Said::Log(value.into()),
        OUTPUT_LOST => Said::OutputLost { bytes: value.parse().ok()? },
        "EXTEND_TIMEOUT_USEC" => Said::Extend { ms: value.parse::<u64>().ok()? / 1_000 },
        _ => return None,
    })
}

fn printable(value: &str) -> String {
    // Before it is cut: half a secret would not be known any more.
    crate::secrets::without(value).chars().filter(|c| !c.is_control()).take(MAX_VALUE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_are_taken_and_others_passed_over() {
        let said =
            parse(b"READY=1\nSTATUS=reads \x1b[31mfiles\nX=1\nnonsense\nEXTEND_TIMEOUT_USEC=2500000\nWATCHDOG=1");
        let extend = Said::Extend { ms: 2_500 };
        assert_eq!(said, [Said::Ready, Said::Message("reads [31mfiles".to_owned()), extend, Said::Alive]);
        assert_eq!(parse(b"AUTOPILOT_OUTPUT_LOST=70000"), [Said::OutputLost { bytes: 70_000 }]);
        assert_eq!(parse(b"WATCHDOG=trigger\nAUTOPILOT_RLOG=relative\nEXTEND_TIMEOUT_USEC=-1\n\xff\xfe"), []);
    }
}
