//! Values of the AMQP type system (part 1).

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// A symbol: ASCII text from a constrained domain. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// From a text. Characters outside ASCII are kept as they are; peers may refuse them.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Symbol {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}", &*self.0)
    }
}

/// Key-value pairs in the order of the wire. AMQP maps are ordered and may have keys of any
/// type; duplicates are kept.
pub type Map = Vec<(Value, Value)>;

/// A map with symbol keys (`fields` of part 2: properties, filters, error info). Keys that came
/// as strings are taken as symbols.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Fields(pub Vec<(Symbol, Value)>);

impl Fields {
    /// The first value of `key`, if the key is present (its value may be null).
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k.as_str() == key).map(|(_, v)| v)
    }

    /// Adds an entry.
    pub fn insert(&mut self, key: &str, value: Value) {
        self.0.push((Symbol::new(key), value));
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value with a descriptor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Described {
    /// Usually a `Ulong` or `Symbol`.
    pub descriptor: Value,
    /// The value described.
    pub value: Value,
}

/// An array: all elements of one type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Array {
    /// Constructor byte of the elements (for an empty array too), e.g. 0x98 for uuid, 0x83
    /// timestamp, 0x81 long, 0xa1/0xb1 string, 0xa3 symbol.
    pub constructor: u8,
    /// The elements, each of the type of `constructor`.
    pub elements: Vec<Value>,
}

/// Any AMQP value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Value {
    /// null
    #[default]
    Null,
    /// boolean
    Bool(bool),
    /// ubyte
    Ubyte(u8),
    /// ushort
    Ushort(u16),
    /// uint
    Uint(u32),
    /// ulong
    Ulong(u64),
    /// byte
    Byte(i8),
    /// short
    Short(i16),
    /// int
    Int(i32),
    /// long
    Long(i64),
    /// float, as its bits (NaNs compare)
    Float(u32),
    /// double, as its bits
    Double(u64),
    /// decimal32, as its bits
    Decimal32([u8; 4]),
    /// decimal64, as its bits
    Decimal64([u8; 8]),
    /// decimal128, as its bits
    Decimal128([u8; 16]),
    /// char (UTF-32)
    Char(char),
    /// timestamp: milliseconds since the Unix epoch
    Timestamp(i64),
    /// uuid, RFC 4122 byte order
    Uuid([u8; 16]),
    /// binary
    Binary(Bytes),
    /// string
    String(Box<str>),
    /// symbol
    Symbol(Symbol),
    /// list
    List(Vec<Value>),
    /// map
    Map(Map),
    /// array
    Array(Box<Array>),
    /// described value
    Described(Box<Described>),
}

impl Value {
    /// A string value.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::String(text.into())
    }

    /// A symbol value.
    #[must_use]
    pub fn symbol(text: &str) -> Self {
        Self::Symbol(Symbol::new(text))
    }

    /// The text of a string or symbol.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Symbol(symbol) => Some(symbol.as_str()),
            _ => None,
        }
    }

    /// The number in any integer type, if it is not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Ubyte(n) => Some(n.into()),
            Self::Ushort(n) => Some(n.into()),
            Self::Uint(n) => Some(n.into()),
            Self::Ulong(n) => Some(n),
            Self::Byte(n) => n.try_into().ok(),
            Self::Short(n) => n.try_into().ok(),
            Self::Int(n) => n.try_into().ok(),
            Self::Long(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// The number in any integer type, if it fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Byte(n) => Some(n.into()),
            Self::Short(n) => Some(n.into()),
            Self::Int(n) => Some(n.into()),
            Self::Long(n) => Some(n),
            _ => self.as_u64().and_then(|n| n.try_into().ok()),
        }
    }
}

/// The error of close, end, detach and rejected (part 2.8.14).
#[derive(Clone, PartialEq, Debug)]
pub struct Error {
    /// For example `amqp:not-found`.
    pub condition: Symbol,
    /// Text for a person.
    pub description: Option<Box<str>>,
    /// Further facts.
    pub info: Option<Fields>,
}

impl Error {
    /// An error with a text and no further facts.
    #[must_use]
    pub fn new(condition: &str, description: impl Into<Box<str>>) -> Self {
        Self { condition: Symbol::new(condition), description: Some(description.into()), info: None }
    }
}
