//! Which of the images behind one name this machine runs.

use std::fmt;

use serde::Deserialize;

/// An `os/architecture[/variant]` triple (OCI image-spec, image-index.md "platform").
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(deserialize_with = "crate::manifest::null_is_default")]
    pub variant: String,
}

/// Wasm platforms in order of preference. `wasi/wasm` is the older spelling of rootfs images.
const WASM_OS: [&str; 4] = ["wasip2", "wasip1", "wasi", "wasip3"];

impl Platform {
    /// Linux on this machine's processor.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "x86" => ("386", ""),
            "riscv64" => ("riscv64", ""),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            other => (other, ""),
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.into(),
        }
    }

    /// Whether the image is for a wasm host rather than for a processor.
    pub fn is_wasm(&self) -> bool {
        matches!(self.architecture.as_str(), "wasm" | "wasm32")
            && (WASM_OS.contains(&self.os.as_str()) || self.os == "linux")
            || WASM_OS.contains(&self.os.as_str())
    }

    /// How well an image for `other` suits this machine: lower is better, `None` is not at all.
    pub(crate) fn preference(&self, other: &Platform) -> Option<u32> {
        if other.os == self.os && other.architecture == self.architecture {
            let same = other.variant.is_empty() || self.variant.is_empty() || other.variant == self.variant;
            return same.then_some(u32::from(other.variant != self.variant));
        }
        if other.is_wasm() {
            let rank = WASM_OS.iter().position(|os| *os == other.os).unwrap_or(WASM_OS.len());
            return Some(10 + u32::try_from(rank).unwrap_or(u32::MAX - 10));
        }
        None
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(formatter, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform {
            os: parts.next().unwrap_or_default(),
            architecture: parts.next().unwrap_or_default(),
            variant: parts.next().unwrap_or_default(),
        }
    }

    #[test]
    fn the_machine_comes_first_then_wasm() {
        let host = platform("linux/arm64/v8");
        let mut offers = [
            "wasi/wasm",
            "linux/arm64",
            "wasip1/wasm",
            "linux/arm64/v8",
            "wasip2/wasm",
        ]
        .map(platform)
        .to_vec();
        offers.sort_by_key(|offer| host.preference(offer));
        let order: Vec<String> = offers.iter().map(ToString::to_string).collect();
        assert_eq!(
            order,
            [
                "linux/arm64/v8",
                "linux/arm64",
                "wasip2/wasm",
                "wasip1/wasm",
                "wasi/wasm"
            ]
        );
        for foreign in [
            "linux/amd64",
            "windows/arm64",
            "linux/arm/v7",
            "unknown/unknown",
            "linux/arm64/v9",
        ] {
            assert_eq!(host.preference(&platform(foreign)), None, "{foreign}");
        }
    }
}
