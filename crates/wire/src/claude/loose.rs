//! JSON values taken as they come: a field of an unexpected type reads as absent and never spoils the line around it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a value may be made of; every kind that is not taken is skipped.
pub(super) trait Shape<'de>: Default {
    fn flag(&mut self, _: bool) {}
    fn number(&mut self, _: f64) {}
    fn text(&mut self, _: Cow<'de, str>) {}
    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

pub(super) fn read<'de, D: Deserializer<'de>, S: Shape<'de>>(from: D) -> Result<S, D::Error> {
    from.deserialize_any(Taker(PhantomData))
}

struct Taker<S>(PhantomData<S>);

impl<'de, S: Shape<'de>> Visitor<'de> for Taker<S> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<S, E> {
        Ok(S::default())
    }

    fn visit_bool<E>(self, flag: bool) -> Result<S, E> {
        let mut shape = S::default();
        shape.flag(flag);
        Ok(shape)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<S, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<S, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E>(self, number: f64) -> Result<S, E> {
        let mut shape = S::default();
        shape.number(number);
        Ok(shape)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<S, E> {
        let mut shape = S::default();
        shape.text(Cow::Borrowed(text));
        Ok(shape)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<S, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E>(self, text: String) -> Result<S, E> {
        let mut shape = S::default();
        shape.text(Cow::Owned(text));
        Ok(shape)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<S, A::Error> {
        let mut shape = S::default();
        shape.list(list)?;
        Ok(shape)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<S, A::Error> {
        let mut shape = S::default();
        shape.map(map)?;
        Ok(shape)
    }
}

/// A string, or nothing.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(pub(super) Option<Cow<'a, str>>);

impl<'a> Shape<'a> for Text<'a> {
    fn text(&mut self, text: Cow<'a, str>) {
        self.0 = Some(text);
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read(from)
    }
}

/// `true` or `false`, or nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Flag(pub(super) Option<bool>);

impl Shape<'_> for Flag {
    fn flag(&mut self, flag: bool) {
        self.0 = Some(flag);
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read(from)
    }
}

/// A number, or nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Number(pub(super) Option<f64>);

impl Number {
    /// The number as a count: no fraction, nothing below zero. `None` for what is neither.
    pub(super) fn count(self) -> Option<u64> {
        let number = self.0?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates, and only non-negative finite numbers arrive here"
        )]
        (number.is_finite() && number >= 0.0).then_some(number as u64)
    }
}

impl Shape<'_> for Number {
    fn number(&mut self, number: f64) {
        self.0 = Some(number);
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read(from)
    }
}

/// An object of a known form, or nothing.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Shape<'de> for Object<T> {
    fn map<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        self.0 = Some(T::deserialize(MapAccessDeserializer::new(map))?);
        Ok(())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read(from)
    }
}

/// A list, or nothing.
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Shape<'de> for List<T> {
    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            self.0.push(element);
        }
        Ok(())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read(from)
    }
}
