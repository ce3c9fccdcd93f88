//! Randomness for names that must not repeat. Never for decisions.

use std::io;

/// 16 hexadecimal digits.
///
/// # Errors
/// As of getrandom(2).
pub fn hex() -> io::Result<String> {
    let mut bytes = [0_u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
