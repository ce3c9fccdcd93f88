//! Checks over several keys.

use super::keys::{keys, position};
use super::load::WorkerCommand;
use super::problem::{Fault, Place, Problem};
use super::value::{Origin, Setting, Value};
use std::path::PathBuf;

/// Pairs of which the first may not exceed the second.
const ORDERS: [(&str, &str); 2] = [
    ("restart.initial_backoff_ms", "restart.max_backoff_ms"),
    ("memory.critical_threshold_bytes", "memory.min_available_bytes"),
];

/// Where both were chosen, the wrong order is a fault. Where one was, the other's default follows it: who sets
/// `max_backoff_ms = 500` means it. A band that is switched off (0) is in nobody's way.
pub(super) fn orders(effective: &mut [Setting<Value>], faulty: &[&str], problems: &mut Vec<Problem>) {
    for (low, high) in ORDERS {
        let (Some(low), Some(high)) = (position(low), position(high)) else {
            continue;
        };
        let (Some(low_key), Some(high_key)) = (keys().nth(low), keys().nth(high)) else {
            continue;
        };
        if faulty.contains(&low_key.path) || faulty.contains(&high_key.path) {
            continue;
        }
        let (Value::Integer(low_value), Value::Integer(high_value)) = (&effective[low].value, &effective[high].value)
        else {
            continue;
        };
        let (low_value, high_value) = (*low_value, *high_value);
        let switched_off = high_value == 0 && high_key.zero.is_some();
        if low_value <= high_value || switched_off {
            continue;
        }
        if !effective[low].origin.is_chosen() {
            effective[low] = Setting::new(Value::Integer(high_value), Origin::Follows(high_key.name));
        } else if !effective[high].origin.is_chosen() {
            effective[high] = Setting::new(Value::Integer(low_value), Origin::Follows(low_key.name));
        } else {
            let fault = Fault::Disordered { low: low_key.name, low_value, high: high_key.name, high_value };
            problems.push(Problem { place: place(&effective[low].origin), fault });
        }
    }
}

/// Puts the section's three keys together. The variable replaces all of them.
pub(super) fn worker_command(
    effective: &mut [Setting<Value>],
    faulty: &[&str],
    problems: &mut Vec<Problem>,
) -> Setting<Option<WorkerCommand>> {
    let unset = Setting::new(None, Origin::Default);
    let places = ["type", "path", "manifest_path"].map(|name| position(&format!("worker_command.{name}")));
    let [Some(kind), Some(path), Some(manifest)] = places else {
        return unset;
    };
    if faulty.iter().any(|path| path.starts_with("worker_command.")) {
        return unset;
    }
    if matches!(effective[path].origin, Origin::Env(_)) {
        let origin = effective[path].origin.clone();
        effective[kind] = Setting::new(Value::Text("Binary".to_owned()), origin);
        effective[manifest] = Setting::new(Value::Unset, Origin::Default);
    }
    let as_path = |index: usize| -> Option<PathBuf> {
        if let Value::Path(path) = &effective[index].value { Some(path.clone()) } else { None }
    };
    let chosen = if let Value::Text(name) = &effective[kind].value { Some(name.as_str()) } else { None };
    let binary =
        |path_value| Setting::new(Some(WorkerCommand::Binary { path: path_value }), effective[path].origin.clone());
    let cargo = |manifest_path, at: usize| {
        Setting::new(Some(WorkerCommand::Cargo { manifest_path }), effective[at].origin.clone())
    };
    let wrong = |key, name| Fault::WrongForType { key, kind: name };
    let (at, fault) = match (chosen, as_path(path), as_path(manifest)) {
        (None, None, None) => return unset,
        (None | Some("Binary"), Some(path), None) => return binary(path),
        (None, None, Some(path)) => return cargo(Some(path), manifest),
        (Some("Cargo"), None, manifest_path) => return cargo(manifest_path, kind),
        (None, Some(_), Some(_)) => (path, Fault::Ambiguous),
        (Some("Cargo"), Some(_), _) => (path, wrong("path", "Cargo")),
        (Some(_), _, Some(_)) => (manifest, wrong("manifest_path", "Binary")),
        (Some(_), _, None) => (kind, Fault::BinaryWithoutPath),
    };
    problems.push(Problem { place: place(&effective[at].origin), fault });
    unset
}

fn place(origin: &Origin) -> Place {
    match origin {
        Origin::File { path, line } => Place::File { path: path.clone(), line: Some(*line) },
        Origin::Env(name) => Place::Env(name),
        Origin::Flag(name) => Place::Flag(name),
        Origin::Default | Origin::Follows(_) => Place::Nowhere,
    }
}
