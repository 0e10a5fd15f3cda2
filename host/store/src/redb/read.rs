//! Reads: one short read transaction each.

use redb::{Database, ReadTransaction, ReadableDatabase as _};

use super::file::table;
use super::{ROW_HEADER, SHORT_ROW, decode_row};
use crate::key::{Key, KeyRange};
use crate::seam::{Direction, MAX_GET_BYTES, MAX_PAGE_BYTES, Page, ReadError, Rev, Row};

/// Why a read failed.
pub(super) enum Failed {
    /// The file has to be opened again.
    Engine(redb::Error),
    /// Opening it again would not help.
    Final(ReadError),
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed::Engine(error.into())
    }
}

pub(super) fn row(key: Key, bytes: &[u8]) -> Result<Row, Failed> {
    match decode_row(bytes) {
        Some((rev, until_ms, val)) => Ok(Row { key, rev: Rev(rev), until_ms, val }),
        None => Err(Failed::Final(ReadError::Damaged { key, reason: SHORT_ROW.into() })),
    }
}

/// As [`Row::bytes`], of a row that is still in its table.
fn row_bytes(key: &[u8], bytes: &[u8]) -> usize {
    key.len() + bytes.len().saturating_sub(ROW_HEADER)
}

pub(super) fn get(database: &Database, keys: &[Key]) -> Result<Vec<Option<Row>>, Failed> {
    let transaction = database.begin_read()?;
    let (mut rows, mut bytes): (Vec<Option<Row>>, usize) = (vec![None; keys.len()], 0);
    // Each table is opened once, whatever the order of the keys.
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|i| keys[*i].space);
    for of_one_space in order.chunk_by(|a, b| keys[*a].space == keys[*b].space) {
        get_in(&transaction, keys, of_one_space, &mut rows, &mut bytes)?;
    }
    Ok(rows)
}

fn get_in(
    transaction: &ReadTransaction,
    keys: &[Key],
    indices: &[usize],
    rows: &mut [Option<Row>],
    bytes: &mut usize,
) -> Result<(), Failed> {
    let Some(first) = indices.first() else { return Ok(()) };
    let table = transaction.open_table(table(keys[*first].space))?;
    for i in indices {
        let Some(found) = redb::ReadableTable::get(&table, keys[*i].bytes.as_ref())? else { continue };
        // What does not fit is not copied to find that out.
        *bytes += row_bytes(&keys[*i].bytes, found.value());
        if *bytes > MAX_GET_BYTES {
            return Err(Failed::Final(ReadError::TooLarge));
        }
        rows[*i] = Some(row(keys[*i].clone(), found.value())?);
    }
    Ok(())
}

pub(super) fn scan(
    database: &Database,
    range: &KeyRange,
    limit: usize,
    direction: Direction,
) -> Result<Page, Failed> {
    let (mut page, mut page_bytes) = (Page::default(), 0);
    if range.is_empty() {
        return Ok(page);
    }
    let transaction = database.begin_read()?;
    let table = transaction.open_table(table(range.space))?;
    let mut found = redb::ReadableTable::range::<&[u8]>(&table, range.bounds())?;
    loop {
        let next = match direction {
            Direction::Forward => found.next(),
            Direction::Backward => found.next_back(),
        };
        let Some(entry) = next else { return Ok(page) };
        if page.rows.len() == limit {
            page.more = true;
            return Ok(page);
        }
        let (key, bytes) = entry?;
        // What does not fit is not copied to find that out.
        page_bytes += row_bytes(key.value(), bytes.value());
        if page_bytes > MAX_PAGE_BYTES && !page.rows.is_empty() {
            page.more = true;
            return Ok(page);
        }
        let key = Key::new(range.space, key.value().to_vec());
        page.rows.push(row(key, bytes.value())?);
    }
}
