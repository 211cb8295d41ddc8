//! The device that a model runs on, as the user names it.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::ExtractError;
use crate::error::bail;

/// `auto`, `cpu`, `cuda:0`, `metal:0`, ...
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first available GPU that this program was built for, else the CPU.
    #[default]
    Auto,
    /// The CPU, even where there is a GPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
    /// The GPU of this number, on a Mac.
    Metal(usize),
}

impl DeviceChoice {
    /// The device.
    ///
    /// # Errors
    ///
    /// The device does not exist, or this program wasn't built for it.
    pub fn device(self) -> Result<Device, ExtractError> {
        let opened = match self {
            Self::Auto => mistralrs::best_device(false),
            Self::Cpu => return Ok(Device::Cpu),
            Self::Cuda(number) if cfg!(feature = "cuda") => Device::new_cuda(number),
            Self::Metal(number) if cfg!(feature = "metal") => Device::new_metal(number),
            Self::Cuda(_) | Self::Metal(_) => {
                bail!(
                    "device: found {self}, which this program was not built for: build it with its feature, or give cpu"
                )
            }
        };
        opened.map_err(|error| ExtractError::engine(error).at(format_args!("device: {self} can't be used")))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal(number) => write!(f, "metal:{number}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = ExtractError;

    fn from_str(text: &str) -> Result<Self, ExtractError> {
        let (name, number) = text.split_once(':').unwrap_or((text, "0"));
        let number: Option<usize> = number.parse().ok();
        match (name, number) {
            ("auto", Some(0)) => Ok(Self::Auto),
            ("cpu", Some(0)) => Ok(Self::Cpu),
            ("cuda", Some(number)) => Ok(Self::Cuda(number)),
            ("metal", Some(number)) => Ok(Self::Metal(number)),
            _ => bail!("found {text:?}, expected auto, cpu, cuda:NUMBER or metal:NUMBER"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3", "metal:0"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cpu:1", "cuda:0:1"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
        assert!(matches!(DeviceChoice::Cpu.device(), Ok(Device::Cpu)));
    }
}
