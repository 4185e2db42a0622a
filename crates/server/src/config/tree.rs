//! A configuration file as a tree of values, each with the line it stands in: the common form of
//! TOML and of JSON with comments. Nothing here knows what the keys mean.

use std::{fmt, path::Path, sync::Arc};

use jsonc_parser::{ParseOptions, ast, common::Ranged as _};
use toml::de::{DeTable, DeValue};

/// Where something in a configuration stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// The file, as it was named to the broker.
    pub file: Arc<Path>,
    /// The line, from 1; 0 for what no file says (`--dev`, the command line).
    pub line: u32,
}

impl Origin {
    /// Of what a command-line option or environment variable says.
    #[must_use]
    pub fn option(name: &str) -> Self {
        Self { file: Path::new(name).into(), line: 0 }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

/// A value and the line it starts in.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

/// What both formats can say.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Decimal(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// A kind that no key takes; the text names it.
    Other(&'static str),
}

/// One key of a table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u32,
    pub(super) node: Node,
}

impl Value {
    /// The kind of value, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Decimal(_) => "a decimal number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// A text that is no file of its format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: u32,
    pub(super) text: String,
}

/// Byte offsets at which lines start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> u32 {
        let before = self.0.partition_point(|newline| *newline < offset);
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }
}

/// Parses TOML.
pub(super) fn from_toml(text: &str) -> Result<Node, SyntaxError> {
    let lines = Lines::of(text);
    match DeTable::parse(text) {
        Ok(table) => Ok(Node { line: 1, value: toml_table(table.get_ref(), &lines) }),
        Err(error) => Err(SyntaxError {
            line: error.span().map_or(1, |span| lines.at(span.start)),
            text: error.message().replace('\n', ", "),
        }),
    }
}

fn toml_table(table: &DeTable<'_>, lines: &Lines) -> Value {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().clone().into_owned(),
            line: lines.at(key.span().start),
            node: Node { line: lines.at(value.span().start), value: toml_value(value.get_ref(), lines) },
        })
        .collect();
    entries.sort_by_key(|entry| entry.line);
    Value::Table(entries)
}

fn toml_value(value: &DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number that is too large"), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or(Value::Other("a number that is too large"), Value::Decimal)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    line: lines.at(item.span().start),
                    value: toml_value(item.get_ref(), lines),
                })
                .collect(),
        ),
        DeValue::Table(table) => toml_table(table, lines),
    }
}

/// Parses JSON with `//` and `/* */` comments and trailing commas, as the emulator's sample
/// files have them.
pub(super) fn from_jsonc(text: &str) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let lines = Lines::of(text);
    match jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &options) {
        Ok(parsed) => match parsed.value {
            Some(value) => json_node(&value, &lines),
            None => Err(SyntaxError { line: 1, text: "the file is empty".to_owned() }),
        },
        Err(error) => Err(SyntaxError {
            // The parser's own count takes a carriage return for the end of a line.
            line: lines.at(error.range().start),
            text: error.kind().to_string(),
        }),
    }
}

fn json_node(value: &ast::Value<'_>, lines: &Lines) -> Result<Node, SyntaxError> {
    let line = lines.at(value.start());
    let value = match value {
        ast::Value::StringLit(text) => Value::Text(text.value.clone().into_owned()),
        ast::Value::NumberLit(number) => match number.value.parse::<i64>() {
            Ok(number) => Value::Integer(number),
            Err(_) => number.value.parse().map_or(Value::Other("a number that is too large"), Value::Decimal),
        },
        ast::Value::BooleanLit(value) => Value::Bool(value.value),
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::Array(items) => {
            Value::List(items.elements.iter().map(|item| json_node(item, lines)).collect::<Result<_, _>>()?)
        }
        ast::Value::Object(object) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(object.properties.len());
            for property in &object.properties {
                let (key, line) = (property.name.as_str(), lines.at(property.start()));
                if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                    let text = format!("\"{key}\" stands twice, first in line {}", first.line);
                    return Err(SyntaxError { line, text });
                }
                entries.push(Entry { key: key.to_owned(), line, node: json_node(&property.value, lines)? });
            }
            Value::Table(entries)
        }
    };
    Ok(Node { line, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: the parser counts a carriage return as a line.
    #[test]
    fn a_syntax_error_in_json_is_placed_by_its_lines() {
        let error = from_jsonc("{\r\n\"UserConfig\":\r\r\r {\r\n\"x\" ? 1 } }").expect_err("no JSON");
        assert_eq!(error.line, 3, "{error:?}");
    }

    #[test]
    fn files_nested_without_end_are_refused() {
        let brackets = "[".repeat(200_000);
        let error = from_jsonc(&brackets).expect_err("too deep");
        assert!(error.text.contains("nesting"), "{error:?}");
        let error = from_toml(&format!("a = {brackets}")).expect_err("too deep");
        assert_eq!(error.line, 1, "{error:?}");
    }
}
