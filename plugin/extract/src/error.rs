//! What can go wrong between pairs and a vector.

use thiserror::Error;

/// No vector was found, or no stream read. The message is whole; there is no further cause.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExtractError {
    /// It lies in what was asked for: texts, a method, layers, a model's name.
    #[error("{0}")]
    Input(String),
    /// It lies in the engine, or in what became of it.
    #[error("{0}")]
    Engine(String),
}

impl ExtractError {
    /// The same, with where it happened in front.
    pub fn at(self, place: impl std::fmt::Display) -> Self {
        match self {
            Self::Input(message) => Self::Input(format!("{place}: {message}")),
            Self::Engine(message) => Self::Engine(format!("{place}: {message}")),
        }
    }

    /// An error of the engine, for people.
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
        // Written so that a comparison with a NaN fails.
        if $condition {
        } else {
            $crate::error::bail!($($message)*);
        }
    };
}

pub(crate) use {bail, ensure};
