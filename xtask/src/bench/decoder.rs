//! Promise 16: how fast the agent's stream is read, and how fast it is rid of secrets. `wire`'s own bench measures.

use serde_json::Value;

use super::place::Place;
use super::row::{Limit, Row, Unit};
use crate::step::{Failure, cargo, shown};

const LEAST_MB_S: f64 = 500.0;

pub(crate) fn measure(_: &Place) -> Result<Vec<Row>, Failure> {
    let mut command = cargo();
    command.args(["bench", "--quiet", "--locked", "--package", "wire", "--bench", "stream"]);
    let output = command.output().map_err(|error| Failure::new(format!("cannot run cargo: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let rates = text.lines().find_map(rates).filter(|_| output.status.success());
    let (decoded, redacted) = rates.ok_or_else(|| Failure::new(format!("{} failed\n{text}{said}", shown(&command))))?;
    Ok(vec![
        Row::new(16, "a recorded stream decoded, best of 25", Limit::AtLeast(LEAST_MB_S), decoded, Unit::MbPerS),
        Row::new(16, "and looked through for secrets", Limit::Shown, redacted, Unit::MbPerS),
    ])
}

/// MB a second: decoded, redacted.
fn rates(line: &str) -> Option<(f64, f64)> {
    let value: Value = serde_json::from_str(line).ok()?;
    Some((value["decode_mb_s"].as_f64()?, value["redact_mb_s"].as_f64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benchs_line_is_understood() {
        assert_eq!(rates("{\"utf8_mb_s\":1,\"decode_mb_s\":601,\"redact_mb_s\":402}"), Some((601.0, 402.0)));
        assert_eq!(rates("running 0 tests"), None);
    }
}
