//! Programs that say nothing of themselves. The smallest that there is: machine code that ends with status 0 at once.

use super::index::Standing;
use super::smoke::{self, Smoke};
use super::tests::{Home, install, shell};

/// An ELF file with one segment, as elf(5) has it, and `words` behind it.
fn nothing(words: &str) -> Vec<u8> {
    const ADDRESS: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    // mov eax, 60 (exit); xor edi, edi; syscall. Or: mov x8, #93; mov x0, #0; svc #0.
    #[cfg(target_arch = "x86_64")]
    let (machine, code) = (62_u16, [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0x90, 0x90, 0x90]);
    #[cfg(target_arch = "aarch64")]
    let (machine, code) = (183_u16, [0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 0x01, 0, 0, 0xd4]);
    let length = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2, machine] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [ADDRESS + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 4]);
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [1_u32, 5] {
        file.extend(word.to_le_bytes());
    }
    for word in [0, ADDRESS, ADDRESS, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file.extend(words.as_bytes());
    file
}

#[test]
fn machine_code_is_asked_for_its_version_only_if_it_knows_the_word() {
    let home = Home::new();
    let asked = |bytes: &[u8], must_answer: bool| {
        install(&home.installed(), bytes);
        smoke::test(&home.installed(), must_answer).unwrap()
    };
    let untold = Smoke::Version(smoke::NAMELESS.to_owned());
    assert_eq!(asked(&nothing(""), false), untold);
    assert_eq!(asked(&nothing("\0.gnu.version\0.gnu.version_r\0"), false), untold);
    let silent = Smoke::Silent("it answers nothing to --version".to_owned());
    assert_eq!(asked(&nothing(""), true), silent);
    assert_eq!(asked(&nothing("--version"), false), silent);
    // Wherever a piece of the file ends.
    for at in (1 << 20) - 14..(1 << 20) + 4 {
        let text = |word: &str| "x".repeat(at - nothing("").len()) + word;
        assert_eq!(asked(&nothing(&text("version")), false), silent, "{at}");
        assert_eq!(asked(&nothing(&text(".gnu.version")), false), untold, "{at}");
    }
}

#[test]
fn who_says_nothing_of_itself_runs_where_there_is_nobody_better() {
    let home = Home::new();
    let mut shelf = home.shelf();
    for words in ["", "--version", "version"] {
        install(&home.installed(), &nothing(words));
        let sha256 = home.choose(&mut shelf).unwrap().sha256.expect("a copy");
        let index = home.index();
        let binary = index.binary(&sha256).unwrap();
        assert_eq!((binary.version.as_str(), binary.standing), (smoke::NAMELESS, Standing::Candidate), "{words}");
    }
    install(&home.installed(), &shell("answers"));
    let answers = home.choose(&mut shelf).unwrap().sha256;
    for words in ["2", "2 --version"] {
        install(&home.installed(), &nothing(words));
        assert_eq!(home.choose(&mut shelf).unwrap().sha256, answers);
        assert!(shelf.problems()[0].contains("answers nothing to --version"), "{:?}", shelf.problems());
    }
}
