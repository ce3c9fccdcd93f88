//! Numbers that look like chance, and are the same in every run.

/// splitmix64: the same instants for the same seed, as far as a machine with other work allows.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0, and below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    /// So many letters and digits.
    ///
    /// # Panics
    /// Never: there are fewer letters than a byte has values.
    pub fn letters(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut letter = || LETTERS[usize::try_from(self.below(LETTERS.len() as u64)).expect("a small number")];
        (0..length).map(|_| char::from(letter())).collect()
    }
}
