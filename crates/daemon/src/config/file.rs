//! The file: TOML text in, one entry a key out, with the line of each and every fault.
//!
//! Reads the spanned syntax tree instead of deserialising, because serde stops at the first error and does not know
//! lines of keys.

use super::accept::{Bases, Raw, accept};
use super::keys::{Key, SECTIONS, Section, keys, position};
use super::problem::{Fault, Meant, Misfit};
use super::suggest;
use super::value::Value;
use std::ops::Range;
use toml::de::{DeInteger, DeTable, DeValue};

/// More faults than this in one file help nobody.
const MAX_FAULTS: usize = 50;
/// Of a broken syntax only the first faults are real; the rest follows from them.
const MAX_SYNTAX_FAULTS: usize = 3;

/// What the file says about one key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) line: usize,
}

/// A line and what is wrong there.
pub(super) type Located = (usize, Fault);

/// Keys that stand in a section that TOML, not the writer, put them in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nested {
    pub(super) line: usize,
    pub(super) section: &'static str,
    pub(super) keys: Vec<&'static str>,
}

#[derive(Debug, Default)]
pub(super) struct Reading {
    /// In the table's order.
    pub(super) entries: Vec<Option<Entry>>,
    /// By line.
    pub(super) faults: Vec<Located>,
    /// A wrong value is neither the file's nor the default: such keys take part in no further check.
    pub(super) faulty: Vec<&'static str>,
    pub(super) nested: Option<Nested>,
}

/// Reads the whole text; never stops at a fault, unless it is no TOML.
pub(super) fn read(text: &str, bases: Bases<'_>) -> Reading {
    let mut reader = Reader { text, bases, found: keys().map(|_| Vec::new()).collect(), reading: Reading::default() };
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        reader.section(&SECTIONS[0], root.get_ref());
        reader.settle();
    } else {
        reader.syntax(&errors);
    }
    let mut reading = reader.reading;
    reading.faults.sort_by_key(|(line, _)| *line);
    reading.faults.truncate(MAX_FAULTS);
    reading
}

struct Reader<'t> {
    text: &'t str,
    bases: Bases<'t>,
    /// By key: the section that it stands in, and what stands there. More than one if a key has two legal places.
    found: Vec<Vec<(&'static str, Entry)>>,
    reading: Reading,
}

impl Reader<'_> {
    fn syntax(&mut self, errors: &[toml::de::Error]) {
        for error in errors.iter().take(MAX_SYNTAX_FAULTS) {
            let line = error.span().map_or(1, |span| self.line(&span));
            let mut message = error.message().replace('\n', ", ");
            if message == "duplicate key"
                && let Some(name) = error.span().and_then(|span| self.text.get(span))
            {
                message = format!("duplicate key {}", name.trim());
            }
            self.fault(line, Fault::Syntax { message });
        }
    }

    /// Reads the keys of one section; the top level's tables are the other sections.
    fn section(&mut self, section: &'static Section, table: &DeTable<'_>) {
        for (name, value) in table.iter() {
            let line = self.line(&name.span());
            let key = name.get_ref().as_ref();
            let top = section.name.is_empty();
            let known = SECTIONS.iter().find(|other| top && !other.name.is_empty() && other.name == key);
            match (known, value.get_ref()) {
                (Some(inner), DeValue::Table(table)) => self.section(inner, table),
                (Some(inner), _) => {
                    let found = self.excerpt(&value.span());
                    self.fault(line, Fault::NotASection { name: inner.name, found });
                }
                (None, DeValue::Table(_)) if top && find("", key).is_none() => {
                    let names = SECTIONS.iter().map(|other| other.name).filter(|name| !name.is_empty());
                    let meant = suggest::nearest(key, names);
                    self.fault(line, Fault::UnknownSection { name: key.to_owned(), meant });
                }
                (None, found) => self.key(section.name, key, line, found, &value.span()),
            }
        }
    }

    fn key(&mut self, section: &'static str, name: &str, line: usize, value: &DeValue<'_>, span: &Range<usize>) {
        let Some(key) = find(section, name) else {
            let meant = meant(section, name);
            self.fault(line, Fault::UnknownKey { section, key: name.to_owned(), meant });
            return;
        };
        match accept(key, &raw(value), self.bases) {
            Ok(value) => {
                if let Some(index) = position(key.path) {
                    self.found[index].push((section, Entry { value, line }));
                }
            }
            Err(misfit) => {
                let found = match misfit {
                    Misfit::Empty => "nothing".to_owned(),
                    _ => self.excerpt(span),
                };
                self.reading.faulty.push(key.path);
                self.fault(line, Fault::Value { key, found, misfit });
            }
        }
    }

    /// One entry a key: two legal places may only say the same.
    fn settle(&mut self) {
        let mut nested: Option<Nested> = None;
        for (key, mut found) in keys().zip(std::mem::take(&mut self.found)) {
            // The canonical place first.
            found.sort_by_key(|(section, _)| *section != key.section);
            for (section, entry) in &found {
                if !section.is_empty() && *section != key.section {
                    let nested = nested.get_or_insert(Nested { line: entry.line, section, keys: Vec::new() });
                    nested.keys.push(key.name);
                    nested.line = nested.line.min(entry.line);
                }
            }
            if let [(_, first), (_, second)] = found.as_slice()
                && first.value != second.value
            {
                let (early, late) = if first.line < second.line { (first, second) } else { (second, first) };
                let fault = Fault::Twice {
                    key,
                    this: super::render::toml_value(&late.value),
                    other: super::render::toml_value(&early.value),
                    other_line: early.line,
                };
                let line = late.line;
                self.reading.faulty.push(key.path);
                self.fault(line, fault);
            }
            self.reading.entries.push(found.into_iter().next().map(|(_, entry)| entry));
        }
        self.reading.nested = nested;
    }

    fn fault(&mut self, line: usize, fault: Fault) {
        self.reading.faults.push((line, fault));
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        1 + before.split(|byte| *byte == b'\n').count() - 1
    }

    /// The value as written, on one short line.
    fn excerpt(&self, span: &Range<usize>) -> String {
        const MAX_CHARS: usize = 40;
        let text = self.text.get(span.clone()).unwrap_or_default();
        let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() > MAX_CHARS {
            line = line.chars().take(MAX_CHARS - 1).chain(['…']).collect();
        }
        line
    }
}

/// The key of that name, in this section or with this section as its second place.
fn find(section: &str, name: &str) -> Option<&'static Key> {
    keys().find(|key| key.name == name && (key.section == section || key.also_in == Some(section)))
}

/// What was probably meant: the nearest name, of equals the one that is legal here.
fn meant(section: &str, name: &str) -> Option<Meant> {
    let legal = |key: &&Key| key.section == section || key.also_in == Some(section);
    let mut candidates: Vec<&'static Key> = keys().collect();
    candidates.sort_by_key(|key| !legal(key));
    let near = suggest::nearest_by(name, candidates, |key| key.name)?;
    Some(if legal(&near) { Meant::Key(near.name) } else { Meant::Section { name: near.section, key: near.name } })
}

fn raw<'a>(value: &'a DeValue<'_>) -> Raw<'a> {
    match value {
        DeValue::String(text) => Raw::Text(text),
        DeValue::Integer(number) => Raw::Integer(integer(number)),
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Raw::Float(number),
            Err(_) => Raw::Other,
        },
        DeValue::Array(items) => Raw::List(items.iter().map(|item| item.get_ref().as_str()).collect()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Table(_) => Raw::Other,
    }
}

fn integer(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}
