mod commands;

use proptest::prelude::*;

use super::*;

/// A small generator: the same secrets in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % limit
    }

    fn of(&mut self, alphabet: &str, length: usize) -> String {
        let letters = alphabet.as_bytes();
        (0..length).map(|_| char::from(letters[self.below(letters.len())])).collect()
    }
}

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const WORD: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &str = "0123456789abcdef";

fn key(chance: &mut Chance, lines: usize) -> String {
    let body: Vec<String> = (0..lines).map(|_| chance.of(BASE64, 64)).collect();
    let label = ["RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "EC PRIVATE KEY"][chance.below(4)];
    format!("-----BEGIN {label}-----\n{}\n{}==\n-----END {label}-----", body.join("\n"), chance.of(BASE64, 22))
}

/// A secret with what it is known by, and the parts of it that must be nowhere.
fn secret(kind: usize, chance: &mut Chance) -> (String, Vec<String>) {
    let whole = |text: String| (text.clone(), vec![text]);
    let with = |before: &str, secret: String, after: &str| (format!("{before}{secret}{after}"), vec![secret]);
    match kind {
        0 => whole(format!("sk-ant-api03-{}AA", chance.of(WORD, 93))),
        1 => whole(format!("sk-proj-{}", chance.of(WORD, 64))),
        2 => whole(format!("sk-{}", chance.of(ALNUM, 48))),
        3 => whole(format!("ghp_{}", chance.of(ALNUM, 36))),
        4 => whole(format!("gho_{}", chance.of(ALNUM, 36))),
        5 => whole(format!("ghs_{}", chance.of(ALNUM, 36))),
        6 => whole(format!("github_pat_{}_{}", chance.of(ALNUM, 22), chance.of(ALNUM, 59))),
        7 => whole(format!("glpat-{}", chance.of(WORD, 20))),
        8 => whole(format!("AKIA{}", chance.of(UPPER, 16))),
        9 => with("aws_secret_access_key = ", chance.of(BASE64, 40), ""),
        10 => with(&format!("AKIA{},", chance.of(UPPER, 16)), chance.of(BASE64, 40), "\n"),
        11 => whole(format!("AIza{}", chance.of(WORD, 35))),
        12 => whole(format!("xoxb-{}-{}-{}", 123_456_789_012_u64, 987_654_321_098_u64, chance.of(ALNUM, 24))),
        13 => whole(format!("sk_live_{}", chance.of(ALNUM, 24))),
        14 => whole(format!("npm_{}", chance.of(ALNUM, 36))),
        15 => whole(format!("pypi-AgEIcHlwaS5vcmc{}", chance.of(WORD, 120))),
        16 => whole(format!("hf_{}", chance.of(ALNUM, 34))),
        17 => whole(format!("1234567890:AA{}", chance.of(WORD, 33))),
        18 => whole(format!("SG.{}.{}", chance.of(WORD, 22), chance.of(WORD, 43))),
        19 => whole(format!("SK{}", chance.of(HEX, 32))),
        20 => whole(format!("dop_v1_{}", chance.of(HEX, 64))),
        21 => whole(format!("eyJhbGciOiJIUzI1NiJ9.eyJ{}.{}", chance.of(WORD, 60), chance.of(WORD, 43))),
        22 => with("postgres://shop:", chance.of(WORD, 16), "@db.example.com:5432/shop"),
        23 => with("Authorization: Bearer ", chance.of(WORD, 40), ""),
        24 => with("authorization: Basic ", chance.of(BASE64, 30) + "==", ""),
        25 => with("DB_PASSWORD=", chance.of(ALNUM, 12), ""),
        26 => with("api_key: ", format!("x9{}", chance.of(LOWER, 30)), ""),
        27 => with("{\"client_secret\": \"", format!("a7{}", chance.of(WORD, 30)), "\", \"id\": 1}"),
        28 => with("https://example.com/cb?access_token=", format!("b3{}", chance.of(WORD, 30)), "&state=1"),
        _ => {
            let key = key(chance, 6);
            let lines = key.lines().filter(|line| !line.starts_with("---")).map(str::to_owned).collect();
            (key, lines)
        }
    }
}

const KINDS: usize = 30;

/// How an agent and its tools may show a text.
fn ways_to_show(text: &str) -> Vec<String> {
    let numbered: Vec<String> =
        text.lines().enumerate().map(|(number, line)| format!("{:>6}\u{2192}{line}", number + 1)).collect();
    let tabbed: Vec<String> =
        text.lines().enumerate().map(|(number, line)| format!("{:>6}\t{line}", number + 1)).collect();
    let once = serde_json::json!({"type": "user", "text": format!("first\n{text}\nlast")}).to_string();
    let twice = serde_json::json!({"arguments": once, "n": 1}).to_string();
    let listing = serde_json::json!({"content": numbered.join("\n")}).to_string();
    let padded = format!("Grüße, {text} — fertig");
    vec![
        text.to_owned(),
        numbered.join("\n"),
        tabbed.join("\n"),
        once,
        twice,
        listing,
        padded,
        format!("({text})"),
        format!("'{text}'"),
    ]
}

#[test]
fn a_thousand_secrets_are_nowhere_however_they_are_shown() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let redactor = Redactor::default();
    for round in 0..1_020 {
        let (text, parts) = secret(round % KINDS, &mut chance);
        for shown in ways_to_show(&text) {
            let clean = redactor.text(&shown);
            let json_part = |part: &str| serde_json::to_string(part).unwrap().trim_matches('"').to_owned();
            for part in &parts {
                assert!(!clean.contains(part.as_str()) && !clean.contains(&json_part(part)), "{part} in {clean}");
            }
            assert!(clean.contains("[redacted:"), "{clean}");
            if serde_json::from_str::<serde_json::Value>(&shown).is_ok() {
                assert!(serde_json::from_str::<serde_json::Value>(&clean).is_ok(), "no JSON any more: {clean}");
            }
            assert_eq!(redactor.text(&clean), clean, "a mark is no secret");
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(Redactor::default().text(text), expected);
}

#[test]
fn a_mark_says_what_was_there_and_the_rest_stays() {
    let ghp = format!("ghp_{}", "aB3".repeat(12));
    check(&format!("use {ghp}, please"), "use [redacted:github-token], please");
    check(&format!("GITHUB_TOKEN={ghp}\n"), "GITHUB_TOKEN=[redacted:github-token]\n");
    check(&format!(r#"{{"a":"x\n{ghp}\ny"}}"#), r#"{"a":"x\n[redacted:github-token]\ny"}"#);
    check("postgres://ada:s3cret!@db:5432/x", "postgres://ada:[redacted:password]@db:5432/x");
    check("postgres://ada:p@ss@db/x", "postgres://ada:[redacted:password]@db/x");
    check(r"redis:\/\/:hunter2@cache", r"redis:\/\/:[redacted:password]@cache");
    check("Authorization: Bearer abc.def-123", "Authorization: Bearer [redacted:authorization]");
    check(r#"-H "authorization: token 8f3a9b""#, r#"-H "authorization: token [redacted:authorization]""#);
    check(r#"password: "<x9$""#, r#"password: "[redacted:password]""#);
    check(r#"DB_PASSWORD='{/aB/c9'"#, "DB_PASSWORD='[redacted:password]'");
    check("PASSWORD=/aB/c9x", "PASSWORD=[redacted:password]");
    check("password=hunter2", "password=[redacted:password]");
    check(r#"{"password": "swordfish"}"#, r#"{"password": "[redacted:password]"}"#);
    check(r#"{\"password\": \"sword\\\"fish\"}"#, r#"{\"password\": \"[redacted:password]\"}"#);
    check("mysql --password=swordfish -u ada", "mysql --password=[redacted:password] -u ada");
    check("export SMTP_PASS=swordfish;", "export SMTP_PASS=[redacted:password];");
    check("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF", "[redacted:private-key]");
    check("MIIEvQIBADANBgkqhkiG9w0BAQEF\nAAAA==\n-----END PRIVATE KEY-----\nok", "[redacted:private-key]\nok");
    check(
        r#"{"c":"MIIEvQIBADANBgkqhkiG9w0BAQEF\nAA==\n-----END PRIVATE KEY-----"}"#,
        r#"{"c":"[redacted:private-key]"}"#,
    );
}

#[test]
fn keys_of_providers_are_known_by_their_shapes() {
    let mut chance = Chance(21);
    let mut some = |alphabet: &str, length: usize| format!("a1B{}", chance.of(alphabet, length - 3));
    let tokens = [
        (format!("r8_{}", some(ALNUM, 37)), "replicate-token"),
        (format!("nvapi-{}", some(WORD, 64)), "nvidia-key"),
        (format!("PMAK-{}-{}", some(HEX, 24), some(HEX, 34)), "postman-key"),
        (format!("sq0atp-{}", some(WORD, 22)), "square-token"),
        (format!("ATATT3xFfGF0{}=1A2B3C4D", some(WORD, 172)), "atlassian-token"),
        (format!("ntn_{}", some(ALNUM, 46)), "notion-token"),
        (format!("secret_{}", some(ALNUM, 43)), "notion-token"),
        (format!("sntrys_{}", some(WORD, 100)), "sentry-token"),
        (format!("figd_{}", some(WORD, 40)), "figma-token"),
        (format!("NRAK-{}", some(ALNUM, 27)), "newrelic-key"),
        (format!("dp.pt.{}", some(ALNUM, 43)), "doppler-token"),
        (format!("glsa_{}_1a2b3c4d", some(ALNUM, 32)), "grafana-token"),
        (format!("sbp_{}", some(HEX, 40)), "supabase-token"),
        (format!("pscale_tkn_{}", some(WORD, 43)), "planetscale-token"),
        (format!("rubygems_{}", some(HEX, 48)), "rubygems-key"),
        (format!("fo1_{}", some(WORD, 43)), "fly-token"),
        (format!("pul-{}", some(HEX, 40)), "pulumi-token"),
        (format!("tvly-{}", some(ALNUM, 32)), "tavily-key"),
        (format!("fw_{}", some(ALNUM, 24)), "fireworks-key"),
        (format!("pat{}.{}", some(ALNUM, 14), "0a".repeat(32)), "airtable-token"),
        (format!("key-{}", "0a1b".repeat(8)), "mailgun-key"),
        (format!("MTE{}.Gx1y2Z.{}", some(ALNUM, 21), some(WORD, 38)), "discord-token"),
        (format!("sk.eyJ{}.{}", some(ALNUM, 60), some(ALNUM, 22)), "mapbox-token"),
    ];
    for (token, kind) in tokens {
        check(&format!("use {token}, please"), &format!("use [redacted:{kind}], please"));
        check(&format!("{{\"a\":\"x\\n{token}\"}}"), &format!("{{\"a\":\"x\\n[redacted:{kind}]\"}}"));
    }
    check("AZURE_DEVOPS_EXT_PAT=ab12cd34ef56gh78ij90", "AZURE_DEVOPS_EXT_PAT=[redacted:secret]");
    let sas = "https://a.blob.core.windows.net/c?sv=2022&sig=aB3dE5gH7jK9aB3dE5gH7jK9%2F3D&se=1";
    check(sas, "https://a.blob.core.windows.net/c?sv=2022&sig=[redacted:secret]&se=1");
    check(
        "Authorization: Digest username=\"ada\", response=\"6629fae49393a05397450978507c4ef1\"",
        "Authorization: Digest username=\"ada\", response=\"[redacted:secret]\"",
    );
}

#[test]
fn what_is_no_secret_stays_readable() {
    let image = format!("{{\"data\":\"iVBORw0KGgo{}\"}}", Chance(7).of(BASE64, 60_000));
    for text in [
        "commit 9152db8d48d033fdc9485e56fc82e41484d498a0c65 by ada",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "/nix/store/0c0vf8b3dzwkqv5hzv2c4zv2c4zv2c4z-glibc-2.40/lib",
        "bin/store/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/autopilot",
        "\"session_id\":\"7f1c2a90-5b1e-4c3f-9a54-0d6b8f3e2a11\",\"uuid\":\"0b6a2e0e-5d0e-4a51-9c7b-6d5f2c1a9e10\"",
        "toolu_01AbCdEfGhIjKlMnOpQrStUv msg_01XFDUDYJgAACzvnptvVoYEL req_011CSHoEeqs5C35K2UUqR7Fy",
        "\"integrity\": \"sha512-tMYfwtqzxSTW5t4Hk7jX8lmRpYn2bq3fvSgV7yCqLs0UGmV5e1bTzk0yLrU8l9Qv3w==\"",
        "let token = parser.next_token(); if token == Token::Colon { password: String }",
        "password: &str, token: Option<String>, secret: Vec<u8>, api_key=api_key, pwd=os.getcwd()",
        "password = getpass.getpass('Password: ') or prompt(\"Password: \")",
        "api_key = os.environ[\"API_KEY\"]; token = tokens[1]; secret=sha256(x)",
        "\"max_tokens\": 4096, \"input_tokens\":100,\"cache_read_input_tokens\":200000",
        "\"apiKeySource\":\"ANTHROPIC_API_KEY\" token_type: bearer",
        "PWD=/home/ada/code/shop1 OLDPWD=/home/ada",
        "DATABASE_URL=postgres://ada:${DB_PASSWORD}@localhost:5432/x and http://[::1]:8080/a@b",
        "git@github.com:ada/shop.git ssh://git@github.com/ada/shop https://example.com/@ada/1:2",
        "Authorization: Bearer $TOKEN, authorization: required, Basic auth, bearer tokens are used",
        "Bearer authentication is described in RFC 6750",
        "task-force-desk-risk-management sk-learn-contrib-some-module-2 disk-0123456789",
        "npm_package_homepage=https://docs.example.com npm_lifecycle_event=test",
        "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBa\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----",
        "2026-11-22T09:14:00Z 12:00:01 127.0.0.1:54321 a::b::c x == y",
        "credentials: kEnumerableProperty, private_key: ed25519.Ed25519PrivateKey, const FLAGS_PASS = sys::RING_FLAGS_PASS;",
        "authorization = authorization[1].encode('ascii') Authorization: `Bearer ${process.env.ID_TOKEN}`",
        ".. _`Bearer Token`: https://example.com/rfc6750 password = '%(password)s' token = \"{{ token9 }}\" DB_PASSWORD=$DB_PASSWORD",
        "password: \"<your-password>\", \"password\": \"****\", PASSWORD=\"${PASSWORD:-x}\"",
        "secret: my-app-secret, \"secretName\": \"tls\", password: changeme",
        "key: cargo-key-9152db8d48d033fdc9485e56fc82e414 restore-keys: linux-key-9152db8d48d033fdc9485e56fc82e41484d498a0",
        "secret_manager_client secret_version_id fw_update_handler r8_decode sk.fit(x).score pk.id.value pul-request",
        "response=await client.get(url) response = \"ok\" sig=inspect.signature(f) compat=true PAT=1 figd_ ntn_",
        "https://pattern.example.com MAJOR.minor1.patch NAME.field9.other MODULE_PATTERN=*.rs ATATT3",
        &image,
    ] {
        check(text, text);
    }
}

#[test]
fn the_recorded_streams_hold_no_secret() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let mut files = 0;
    for folder in std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap();
            assert_eq!(Redactor::default().text(&text), text, "{}", file.path().display());
            files += 1;
        }
    }
    assert!(files > 30, "{files}");
}

#[test]
fn what_the_environment_holds_is_known_word_by_word() {
    let variables = [
        ("SHOP_API_KEY", "correct horse battery"),
        ("DB_PASSWORD", "quote\" and \\ and\nline ü"),
        ("SHOP_TOKEN", "correct horse battery staple"),
        ("SHORT_KEY", "1234567"),
        ("BATCH_TOKENS", "100000000"),
        ("HOME", "/home/ada/somewhere"),
    ];
    let redactor = Redactor::with_environment(variables);
    let check = |text: &str, expected: &str| assert_eq!(redactor.text(text), expected, "{text}");
    check("a correct horse battery b", "a [redacted:SHOP_API_KEY] b");
    check("correct horse battery staplecorrect horse battery", "[redacted:SHOP_TOKEN][redacted:SHOP_API_KEY]");
    check("quote\" and \\ and\nline ü", "[redacted:DB_PASSWORD]");
    let json = serde_json::json!({"text": "x quote\" and \\ and\nline ü y"}).to_string();
    check(&json, r#"{"text":"x [redacted:DB_PASSWORD] y"}"#);
    let twice = serde_json::json!({"arguments": json}).to_string();
    check(&twice, r#"{"arguments":"{\"text\":\"x [redacted:DB_PASSWORD] y\"}"}"#);
    check(r#"{"text":"quote\" and \\ and\nline \u00fc"}"#, r#"{"text":"[redacted:DB_PASSWORD]"}"#);
    check("?q=correct%20horse%20battery", "?q=[redacted:SHOP_API_KEY]");
    for plain in ["1234567 /home/ada/somewhere 100000000", "correct horse batter", ""] {
        check(plain, plain);
    }
}

#[test]
fn a_name_says_whether_its_value_is_secret() {
    let secret =
        "MYSQL_PWD SMTP_PASS DB_PASS GH_PAT MY_AUTH SESSION_COOKIE JWT_SIGNATURE SIGNING_SALT WEBHOOK_URL db_pass_2";
    let plain = "PWD OLDPWD PATH COMPASS SSH_AUTH_SOCK XAUTHORITY AUTH_TYPE COOKIE_NAME DATABASE_URL CDPATH BYPASS";
    assert!(secret.split(' ').all(is_secret_name));
    assert_eq!(plain.split(' ').filter(|name| is_secret_name(name)).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_key_that_comes_line_by_line_is_known_by_its_beginning() {
    let key = key(&mut Chance(5), 3);
    let text = format!("before\n{key}\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC\nafter");
    let mut lines = KeyLines::default();
    let found: Vec<bool> = text.lines().map(|line| lines.is_of_key(line.as_bytes())).collect();
    // The lines that begin and end a key are known by themselves.
    assert_eq!(found, [false, false, true, true, true, true, true, false, false]);
    let mut cut = KeyLines::default();
    assert!(!cut.is_of_key(b"-----BEGIN RSA PRIVATE KEY-----"));
    assert!(cut.is_of_key(b"Proc-Type: 4,ENCRYPTED") && cut.is_of_key(b"") && cut.is_of_key(b"MIIEvQIBADANBgk"));
    assert!(!cut.is_of_key(b"error: no such file") && !cut.is_of_key(b"MIIEvQIBADANBgk"));
}

proptest! {
    #[test]
    fn any_text_stays_text_and_a_second_look_finds_nothing(text in "\\PC{0,40}([:=_. -]|sk-|ghp_|://|\\\\n|\"|pass(word|wd)|Bearer |-----BEGIN PRIVATE KEY-----|[A-Za-z0-9]{1,40}|(Set-)?Cookie: a=|; b=|curl -u a:|mysql -p| --password |x-api-key: ){0,12}\\PC{0,10}") {
        let redactor = Redactor::with_environment([("MY_KEY", "schlüsselwörter")]);
        let once = redactor.text(&text).into_owned();
        prop_assert_eq!(redactor.text(&once).into_owned(), once.clone(), "of {:?}", text);
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Redactor::default().bytes(&bytes).len() < bytes.len() * 20 + 40);
    }
}
