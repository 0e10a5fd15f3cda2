//! The records of a JSON file, one after the other or an array of them, handed on so that no more than one is held.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead};

use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::{Deserializer, Value};

use super::archive::Metered;

/// Why not all records were handed on.
#[derive(Debug)]
pub(super) enum Stopped<E> {
    Io(io::Error),
    Json(serde_json::Error),
    /// A record has more bytes than it may have.
    TooLarge,
    /// Who takes them wants no more.
    Taker(E),
}

impl<E> Stopped<E> {
    fn of(error: serde_json::Error) -> Self {
        match error.io_error_kind() {
            Some(io::ErrorKind::FileTooLarge) => Self::TooLarge,
            Some(_) => Self::Io(error.into()),
            None => Self::Json(error),
        }
    }
}

/// Hands the records of `reader` to `take`, each of at most `record_bytes`.
///
/// # Errors
/// [`Stopped`]; those before were handed on.
pub(super) fn each<E>(
    mut reader: impl BufRead,
    record_bytes: u64,
    mut take: impl FnMut(Value) -> Result<(), E>,
) -> Result<(), Stopped<E>> {
    let is_array = begins_array(&mut reader).map_err(Stopped::<E>::Io)?;
    let left = Cell::new(record_bytes);
    let reader = Metered::new(reader, &left);
    if !is_array {
        for value in Deserializer::from_reader(reader).into_iter::<Value>() {
            take(value.map_err(Stopped::<E>::of)?).map_err(Stopped::Taker)?;
            left.set(record_bytes);
        }
        return Ok(());
    }
    let mut json = Deserializer::from_reader(reader);
    let mut elements = Elements { take, left: &left, record_bytes, refused: None };
    let read = json.deserialize_seq(&mut elements).and_then(|()| json.end());
    match elements.refused {
        Some(error) => Err(Stopped::Taker(error)),
        None => read.map_err(Stopped::of),
    }
}

/// Passes over the white space at the front.
fn begins_array(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = reader.fill_buf()?;
        match buffer.iter().position(|b| !b.is_ascii_whitespace()) {
            Some(at) => return Ok(buffer[at] == b'['),
            None if buffer.is_empty() => return Ok(false),
            None => {
                let n = buffer.len();
                reader.consume(n);
            }
        }
    }
}

/// The elements of an array, of which one is held at a time.
struct Elements<'a, F, E> {
    take: F,
    left: &'a Cell<u64>,
    record_bytes: u64,
    refused: Option<E>,
}

impl<'de, E, F: FnMut(Value) -> Result<(), E>> Visitor<'de> for &mut Elements<'_, F, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of OSV records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element()? {
            if let Err(error) = (self.take)(value) {
                self.refused = Some(error);
                return Err(A::Error::custom("no more records are taken"));
            }
            self.left.set(self.record_bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, record_bytes: u64) -> (Vec<Value>, Result<(), Stopped<()>>) {
        let mut records = Vec::new();
        let read = each(text.as_bytes(), record_bytes, |value| {
            let is_last = value == "last";
            records.push(value);
            if is_last { Err(()) } else { Ok(()) }
        });
        (records, read)
    }

    /// Regression: one record of a JSON file could have as many bytes as the file, all of them held.
    #[test]
    fn a_record_is_bounded_and_their_number_is_not() {
        let many = format!("[{}1234567]", "1234567,".repeat(1000));
        for text in [many.as_str(), &many[1..many.len() - 1].replace(',', "\n")] {
            let (records, result) = read(text, 10);
            assert!(result.is_ok() && records.len() == 1001, "{result:?}");
        }
        for text in ["[1, 1234567890123]", "1 1234567890123", "[\"abcdefghijklmno\"]"] {
            assert!(matches!(read(text, 10).1, Err(Stopped::TooLarge)), "{text}");
        }
    }

    #[test]
    fn who_takes_them_may_stop() {
        for text in ["[1, \"last\", 3]", "1 \"last\" 3"] {
            let (records, result) = read(text, 100);
            assert!(matches!(result, Err(Stopped::Taker(()))) && records.len() == 2, "{text}: {result:?}");
        }
        assert!(matches!(read("[1", 100).1, Err(Stopped::Json(_))));
    }
}
