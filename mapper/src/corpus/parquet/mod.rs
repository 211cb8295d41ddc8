//! Text in a column of a Parquet file.
//!
//! | module | role |
//! | --- | --- |
//! | [`pages`] | a column's pages without their compression, none larger than a bound |
//! | [`delta`] | how many lengths a page of delta encoding says that it has |
//! | this one | finds the column and reads its values |

mod delta;
mod pages;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::{ColumnDescPtr, Type};

use self::pages::Pages;
use super::keyed::listed;
use super::length::check_length;
use crate::records::lines::utf8;

/// The texts of a column, row by row.
pub struct Column {
    file: String,
    content: Arc<File>,
    metadata: ParquetMetaData,
    /// Index among the columns that have values.
    column: usize,
    group: usize,
    values: Option<ColumnReaderImpl<ByteArrayType>>,
    /// Rows of the group that are not read yet.
    left: i64,
    row: u64,
    text: Vec<ByteArray>,
    levels: Vec<i16>,
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Column")
            .field("file", &self.file)
            .field("column", &self.column)
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}

impl Column {
    /// Opens a file for its column `key`. `file` names it in messages.
    ///
    /// # Errors
    ///
    /// A file that can't be read or is not Parquet; a column that doesn't exist or holds something other than strings,
    /// with the columns that exist.
    pub fn open(path: &Path, file: &str, key: &str) -> Result<Self> {
        let content = File::open(path).with_context(|| format!("{file}: can't be read"))?;
        let metadata = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&content))
            .with_context(|| format!("{file}: found no valid Parquet; the file may be cut off"))?;
        let schema = metadata.file_metadata().schema_descr();
        let named = |column: &&ColumnDescPtr| column.path().parts() == [key] && column.max_rep_level() == 0;
        let columns: Vec<&Type> = schema.root_schema().get_fields().iter().map(|field| &**field).collect();
        let column = match schema.columns().iter().filter(named).count() {
            1 => schema
                .columns()
                .iter()
                .position(|column| named(&column))
                .unwrap_or_default(),
            found => {
                let nested = columns.iter().any(|column| column.name() == key);
                bail!(
                    "{file}: found {} column {key:?} of text among {}; --text-key names another",
                    if found > 1 {
                        "more than one"
                    } else if nested {
                        "a nested"
                    } else {
                        "no"
                    },
                    described(&columns)
                )
            }
        };
        let schema_column = schema.column(column);
        ensure!(
            is_text(schema_column.self_type()),
            "{file}: found column {key:?} of {}, expected strings; the columns are {}; --text-key names another",
            kind(schema_column.self_type()),
            described(&columns)
        );
        Ok(Self {
            file: file.into(),
            content: Arc::new(content),
            metadata,
            column,
            group: 0,
            values: None,
            left: 0,
            row: 0,
            text: Vec::new(),
            levels: Vec::new(),
        })
    }

    /// The next row's text, empty for null; `None` at the file's end.
    ///
    /// # Errors
    ///
    /// A damaged file, a page that is too large, text that is not UTF-8 or too long; the message names file and row.
    pub fn next_text(&mut self) -> Result<Option<String>> {
        let row = self.row + 1;
        self.read().with_context(|| format!("{}, record {row}", self.file))
    }

    fn read(&mut self) -> Result<Option<String>> {
        loop {
            if self.values.is_none() && !self.next_group()? {
                return Ok(None);
            }
            let Some(values) = &mut self.values else {
                return Ok(None);
            };
            self.text.clear();
            self.levels.clear();
            let (text, levels) = (&mut self.text, &mut self.levels);
            let (rows, _, _) = guarded(|| values.read_records(1, Some(levels), None, text))?;
            if rows == 0 {
                ensure!(
                    self.left == 0,
                    "found {} rows fewer than the file states: it is damaged",
                    self.left
                );
                self.values = None;
                continue;
            }
            ensure!(self.left > 0, "found more rows than the file states: it is damaged");
            self.left -= 1;
            self.row += 1;
            let Some(value) = self.text.first() else {
                // Null.
                return Ok(Some(String::new()));
            };
            check_length(value.len())?;
            return Ok(Some(utf8(value.data())?.to_string()));
        }
    }

    /// Opens the next row group, if there is one.
    fn next_group(&mut self) -> Result<bool> {
        if self.group == self.metadata.num_row_groups() {
            return Ok(false);
        }
        let group = self.metadata.row_group(self.group);
        self.left = group.num_rows();
        let chunk = group.column(self.column);
        let pages = Pages::new(Arc::clone(&self.content), chunk)?;
        let column = chunk.column_descr_ptr();
        self.values = Some(ColumnReaderImpl::new(column, Box::new(pages)));
        self.group += 1;
        Ok(true)
    }
}

/// Calls the library, which panics on some damaged files. A panic becomes an error here, and the reader that panicked
/// isn't used again.
fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| anyhow!("{error}")),
        Err(_) => bail!("the Parquet data is damaged"),
    }
}

/// Whether a column is of strings.
fn is_text(column: &Type) -> bool {
    let info = column.get_basic_info();
    column.is_primitive()
        && column.get_physical_type() == Physical::BYTE_ARRAY
        && (matches!(info.logical_type_ref(), Some(LogicalType::String))
            || info.converted_type() == ConvertedType::UTF8)
}

/// The kind of a column's values, for messages.
fn kind(column: &Type) -> String {
    if !column.is_primitive() || column.get_basic_info().repetition() == Repetition::REPEATED {
        return "nested".into();
    }
    match column.get_physical_type() {
        _ if is_text(column) => "strings".into(),
        Physical::BYTE_ARRAY => "bytes".into(),
        other => other.to_string().to_lowercase(),
    }
}

/// The columns of a file, for messages.
fn described(columns: &[&Type]) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|column| format!("{} ({})", column.name(), kind(column)))
        .collect();
    listed(&names)
}

#[cfg(test)]
pub(super) mod tests;
