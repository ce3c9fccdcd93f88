//! Secrets of headers and command lines, and those that have no mark in them.

use super::*;

const PUTTY: &str = "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nComment: ada\nPublic-Lines: 1\n\
    AAAAB3NzaC1yc2EAAAADAQABAAABAQCg\nPrivate-Lines: 2\n";
const PUTTY_BODY: [&str; 2] = ["AAABAQCCa5dA2n0P4rUe8Tt3SbwG9v7kXyZ1mHqLfJcNoRiDgEuBsVaWxKpMhQtY", "AAAAgQDx"];
const PUTTY_END: &str = "\nPrivate-MAC: 3c2f0a9e8d7b6c5f4e3d2c1b0a9f8e7d6c5b4a39";

#[test]
fn a_databricks_token_is_known_though_no_mark_is_in_it() {
    let token = format!("dapi{}", Chance(3).of(HEX, 32));
    for (shown, expected) in [
        ("@", "[redacted:databricks-token]"),
        ("use @, please", "use [redacted:databricks-token], please"),
        ("@-2.", "[redacted:databricks-token]."),
        ("DATABRICKS_TOKEN=@\n", "DATABRICKS_TOKEN=[redacted:databricks-token]\n"),
        (r#"{"a":"x\n@\ny @"}"#, r#"{"a":"x\n[redacted:databricks-token]\ny [redacted:databricks-token]"}"#),
    ] {
        check(&shown.replace('@', &token), expected);
    }
    let hash = Chance(4).of(HEX, 32);
    for text in
        [format!("dapi{}", &hash[1..]), format!("dapi{hash}0"), format!("x dapi-{hash}"), format!("soudapi{hash}")]
    {
        check(&text, &text);
    }
}

#[test]
fn a_putty_key_is_no_secret_but_for_its_private_lines() {
    let mark = "[redacted:private-key]";
    let body = PUTTY_BODY.join("\n");
    let public = PUTTY.split_once("Private-Lines").unwrap().0;
    check(&format!("{PUTTY}{body}{PUTTY_END}\nok"), &format!("{public}{mark}\nok"));
    // Cut off behind, and before.
    check(&format!("{PUTTY}{}", &body[..40]), &format!("{public}{mark}"));
    check(&format!("{}{PUTTY_END}", PUTTY_BODY[0]), mark);
    for shown in ways_to_show(&format!("{PUTTY}{body}{PUTTY_END}")) {
        let clean = Redactor::default().text(&shown).into_owned();
        assert!(PUTTY_BODY.iter().all(|line| !clean.contains(line)) && clean.contains("AAAAB3NzaC1yc2E"), "{clean}");
        check(&clean, &clean);
    }
    for text in
        ["Private-Lines: 2\n", "after Private-Lines: come the lines", "Private-MAC: 3c2f0a9e8d7b6c5f4e3d", PUTTY]
    {
        check(text, text);
    }
    let mut lines = KeyLines::default();
    let text = format!("{PUTTY}{body}{PUTTY_END}\n{}", PUTTY_BODY[0]);
    let found: Vec<&str> = text.lines().filter(|line| lines.is_of_key(line.as_bytes())).collect();
    assert_eq!(found, PUTTY_BODY);
}

#[test]
fn cookies_of_a_header_are_secret_whoever_set_them() {
    check("Cookie: sid=abcdefgh; theme=dark\r\nHost: x", "Cookie: sid=[redacted:cookie]; theme=dark\r\nHost: x");
    check("> cookie: lang=en; sid=s%3Aab.cd/ef+g==; a=b; c=abcdefgh", "> cookie: lang=en; sid=[redacted:cookie]");
    check("Set-Cookie: sid=abcdefgh; Path=/; HttpOnly", "Set-Cookie: sid=[redacted:cookie]; Path=/; HttpOnly");
    check(r#"{"Cookie": "sid=abcdefgh"}"#, r#"{"Cookie": "sid=[redacted:cookie]"}"#);
    check(r#"{"c":"curl -H \"Cookie: sid=abcdefgh\" x"}"#, r#"{"c":"curl -H \"Cookie: sid=[redacted:cookie]\" x"}"#);
    check(r#"{"c":"a\nSet-Cookie: sid=abcdefgh\nb"}"#, r#"{"c":"a\nSet-Cookie: sid=[redacted:cookie]\nb"}"#);
    check("-H 'Cookie: a=[redacted:jwt]; b=abcdefgh' x", "-H 'Cookie: a=[redacted:jwt]; b=[redacted:cookie]' x");
    check("Cookie: sid=\"abcdefgh\"", "Cookie: sid=\"[redacted:cookie]\"");
    for text in [
        "cookie: a biscuit, cookie: Cookie = jar.get(name), Set-Cookie: none",
        "cookie: see the docs; x=abcdefgh",
        "Cookie: theme=dark; lang=en",
        "Set-Cookie: sid=; Max-Age=0; Path=/some/long/path",
        "my_cookie: sid=abcdefgh document.cookie = 'name=abcdefgh'",
        "Cookie: sid=${SESSION_ID}; b=<your-cookie> `Cookie: sid=$SESSION`",
        "cookie: { secure: true, maxAge: 60000 }, cookies: sid=abcdefgh",
    ] {
        check(text, text);
    }
}

#[test]
fn a_header_with_a_key_needs_no_digits_in_it() {
    check("x-api-key: lettersonly", "x-api-key: [redacted:secret]");
    check("curl -H 'X-Api-Key: lettersonly' x", "curl -H 'X-Api-Key: [redacted:secret]' x");
    check(r#"{"x-auth-token": "lettersonly"}"#, r#"{"x-auth-token": "[redacted:secret]"}"#);
    check(r#"{"c":"-H \"api-key: lettersonly\""}"#, r#"{"c":"-H \"api-key: [redacted:secret]\""}"#);
    for text in [
        "x-api-key: required in every request",
        "x-api-key: authentication by a key",
        "headers = {'x-api-key': anthropicApiKey, 'x-b': 1}",
        "x-api-key: $ANTHROPIC_API_KEY",
        "x-api-key: YOUR_API_KEY",
        "x-api-key: your-api-key",
        "api_key: lettersonly",
    ] {
        check(text, text);
    }
}

#[test]
fn the_user_of_curl_has_a_password_and_that_of_others_a_group() {
    check("curl -u ada:swordfish https://x", "curl -u ada:[redacted:password] https://x");
    check("curl -sSu 'ada:sword fish;' x", "curl -sSu 'ada:[redacted:password]' x");
    check("/usr/bin/curl --user=ada:swordfish x", "/usr/bin/curl --user=ada:[redacted:password] x");
    check("curl x \\\n  -uada@example.com:swordfish", "curl x \\\n  -uada@example.com:[redacted:password]");
    check("curl --proxy-user \"$USER:swordfish\" x", "curl --proxy-user \"$USER:[redacted:password]\" x");
    let shown = r#"{"command":"a\ncurl x \\\n -u \"ada:sword\" | y"}"#;
    check(shown, &shown.replace(":sword", ":[redacted:password]"));
    for text in [
        "docker run -u ada:staff shop; chown -R ada:staff .",
        "curl x | docker run -u ada:staff shop",
        "curl x\ndocker run --user ada:staff shop",
        r#"{"command":"curl x\ndocker run -u ada:staff shop"}"#,
        "curl -u ada https://x:8080/y",
        "curl -u \"$USER:$PASSWORD\" -u ada: -u ${USER}:${PASSWORD} x",
        "curl -H a:b --url x:y 12:00:01",
        "recurl -u ada:staff",
    ] {
        check(text, text);
    }
}

#[test]
fn a_password_may_stick_to_its_option() {
    check("mysql -u root -pswordfish shop", "mysql -u root -p[redacted:password] shop");
    check("/usr/bin/mysqldump -h db -p'sword fish' shop", "/usr/bin/mysqldump -h db -p'[redacted:password]' shop");
    check("mariadb -p123456 < x", "mariadb -p[redacted:password] < x");
    check("sshpass -p swordfish ssh x", "sshpass -p [redacted:password] ssh x");
    check(
        "docker login --username ada --password hunter2",
        "docker login --username ada --password [redacted:password]",
    );
    let shown = r#"{"command":"cd x\nmysql -p\"sword\" -e 'select 1'"}"#;
    check(shown, &shown.replace("sword", "[redacted:password]"));
    for text in [
        "mysql -p and mysql -u root -p shop, mysql -pu",
        "mysql -u root -p$MYSQL_PWD -p\"${PASSWORD}\" -p<password>",
        "docker run --name mysql -p3306:3306 -p 80:80 mysql:8",
        "cc -I/usr/include/mysql x.c -pthread",
        "mysql x | grep -pattern; mkdir -pv a; cp -preserve b",
        "ssh -p2222 mysql.example.com mysql -P3306",
        "use --password to give one, --password <word>, --password-stdin, `--password`",
        "sshpass -e ssh -p 2222 x",
    ] {
        check(text, text);
    }
}
