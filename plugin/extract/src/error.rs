//! Errors of finding a vector from pairs.

use thiserror::Error;

/// A vector could not be found, or a stream not read. The message is complete; there is no source error.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExtractError {
    /// The input is wrong: texts, method, layers or a model's name.
    #[error("{0}")]
    Input(String),
    /// The engine failed or has stopped.
    #[error("{0}")]
    Engine(String),
}

impl ExtractError {
    /// The same, prefixed with the place of the error.
    pub fn at(self, place: impl std::fmt::Display) -> Self {
        match self {
            Self::Input(message) => Self::Input(format!("{place}: {message}")),
            Self::Engine(message) => Self::Engine(format!("{place}: {message}")),
        }
    }

    /// An error of the engine, without its backtrace.
    #[cfg(feature = "engine")]
    pub(crate) fn engine(error: impl std::fmt::Display) -> Self {
        Self::Engine(crate::words::without_backtrace(&error.to_string()))
    }
}

/// Returns with [`ExtractError::Input`].
macro_rules! bail {
    ($($message:tt)*) => {
        return Err($crate::ExtractError::Input(format!($($message)*)))
    };
}

/// Returns with [`ExtractError::Input`] unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        // The negation makes a comparison with NaN fail.
        if $condition {
        } else {
            $crate::error::bail!($($message)*);
        }
    };
}

pub(crate) use {bail, ensure};
