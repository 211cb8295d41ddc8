//! The metadata of a file.

/// The key of the method in EasySteer's files.
pub(super) const METHOD: &str = "controlvector.method";

/// A metadata value, as far as it is needed.
pub(super) enum MetadataValue<'a> {
    Text(&'a str),
    /// Of any width, if it is not negative.
    Integer(u64),
    Bool(bool),
    Other,
}

impl std::fmt::Display for MetadataValue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{:?}", text.chars().take(64).collect::<String>()),
            Self::Integer(integer) => write!(f, "{integer}"),
            Self::Bool(_) | Self::Other => f.write_str("a value of another type"),
        }
    }
}
