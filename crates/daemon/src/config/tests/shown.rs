//! What people and programs see of the settings.

use super::super::{environment_reference, keys, load, settings_reference, to_json, to_text};
use super::{SAMPLE, inputs, loaded};
use serde_json::json;

#[test]
fn the_text_is_aligned_and_names_each_origin() {
    let mut inputs = inputs("max_budget = 5\n[restart]\nmax_backoff_ms = 500\n");
    inputs.flags.model = Some("opus".to_owned());
    inputs.environment.stall_timeout_ms = Some("0".into());
    insta::assert_snapshot!("effective_settings", to_text(&load(&inputs).expect("valid").config));
}

#[test]
fn the_text_is_a_file_that_means_the_same() {
    let odd = r#"
        prompt = "say \"hi\"\\\n\tonce"
        project = "ünï"
        [worker_command]
        type = "Cargo"
        manifest_path = "/src/a b/Cargo.toml"
        [memory]
        kill_names = []
        [restart]
        backoff_multiplier = 1.25
    "#;
    for text in ["", SAMPLE, odd] {
        let before = loaded(text).config;
        let after = loaded(&to_text(&before)).config;
        let values = |config: &super::super::Config| -> Vec<_> {
            config.effective.iter().map(|setting| setting.value.clone()).collect()
        };
        assert_eq!(values(&before), values(&after));
        assert_eq!(before.worker_command.value, after.worker_command.value);
    }
}

#[test]
fn the_data_has_every_key_with_its_origin() {
    let mut inputs = inputs("model = \"opus\"");
    inputs.flags.max_turns = Some(3);
    inputs.environment.recovery_cooldown_ms = Some("9".into());
    let data = to_json(&load(&inputs).expect("valid").config);
    assert_eq!(data["version"], 1);
    assert_eq!(data["file"], "/home/ada/.autopilot/daemon.toml");
    let settings = data["settings"].as_object().expect("an object");
    assert_eq!(settings.len(), keys().count());
    assert_eq!(
        settings["model"],
        json!({"value": "opus", "origin": {"kind": "file", "path": "/home/ada/.autopilot/daemon.toml", "line": 1}})
    );
    assert_eq!(settings["max_turns"], json!({"value": 3, "origin": {"kind": "flag", "name": "--max-turns"}}));
    assert_eq!(
        settings["restart.recovery_cooldown_ms"],
        json!({"value": 9, "origin": {"kind": "environment", "name": "AUTOPILOT_RECOVERY_COOLDOWN_MS"}})
    );
    assert_eq!(settings["project"], json!({"value": null, "origin": {"kind": "default"}}));
}

#[test]
fn the_reference_has_a_row_for_each_key_and_variable() {
    let settings = settings_reference();
    for key in keys() {
        assert!(settings.contains(&format!("| `{}` |", key.name)), "{}", key.path);
        assert!(key.doc.trim().ends_with('.'), "{}: {}", key.path, key.doc);
    }
    insta::assert_snapshot!("settings_reference", settings);
    insta::assert_snapshot!("environment_reference", environment_reference());
}

#[test]
fn the_readme_has_the_reference_as_it_is() {
    let readme = include_str!("../../../../../README.md");
    for (name, reference) in [("settings", settings_reference()), ("environment", environment_reference())] {
        let begin = format!("<!-- {name}: begin -->\n");
        let end = format!("<!-- {name}: end -->");
        let (_, rest) = readme.split_once(&begin).expect(name);
        let (text, _) = rest.split_once(&end).expect(name);
        assert_eq!(text, reference, "copy the reference between the {name} marks");
    }
}
