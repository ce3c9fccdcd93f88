//! What is written, byte for byte, and what odd words become.

use super::{Plan, cron, unit};

fn plan(odd: bool) -> Plan {
    let home = if odd { "/home/ada/1 00%/it's" } else { "/home/ada/.autopilot" };
    let program = if odd { "/opt/a b/$HOME/%n/autopilotd" } else { "/usr/local/bin/autopilotd" };
    let arguments = if odd {
        ["start", "--workdir", "/w/\t $x ;", "--prompt", "first line\nsecond \"line\" 100% \\ 'q' ; | &"].as_slice()
    } else {
        &["start", "--workdir", "/home/ada/code/app", "--project", "app"]
    };
    Plan {
        home: home.into(),
        is_usual_home: !odd,
        program: program.to_owned(),
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        environment: vec![(
            "PATH",
            if odd { "/b%n:/c d".to_owned() } else { "/usr/local/bin:/usr/bin:/bin".to_owned() },
        )],
        stop_timeout_ms: 10_000,
    }
}

#[test]
fn the_unit_file() {
    insta::assert_snapshot!("unit", unit::text(&plan(false)).unwrap());
    insta::assert_snapshot!("unit_odd", unit::text(&plan(true)).unwrap());
    for odd in ["/a'b/autopilotd", "/a\"b/autopilotd", "/a\\b/autopilotd", "/a\nb/autopilotd"] {
        assert!(unit::text(&Plan { program: odd.to_owned(), ..plan(false) }).is_err(), "{odd:?}");
    }
}

#[test]
fn the_crontab_entry_and_its_script() {
    let both = |plan: &Plan| format!("{}\n{}", cron::script(plan), cron::line(plan).unwrap());
    insta::assert_snapshot!("cron", both(&plan(false)));
    insta::assert_snapshot!("cron_odd", both(&plan(true)));
    let broken = Plan { home: "/a\nb".into(), ..plan(false) };
    assert!(cron::line(&broken).is_err());
    let long = Plan { home: format!("/{}", "x".repeat(800)).into(), ..plan(false) };
    assert!(cron::line(&long).is_err());
}

#[test]
fn each_home_has_a_unit_of_its_own() {
    assert_eq!(plan(false).name(), "autopilotd");
    assert_eq!(plan(true).name(), "autopilotd-ecac7f59");
}
