//! Images: pull, push, content store, unpack, overlayfs, pack.
#![forbid(unsafe_code)]

mod credential;
mod digest;
mod error;
mod image;
mod manifest;
mod options;
mod platform;
mod reference;
mod store;

pub use credential::Credential;
pub use digest::Digest;
pub use error::{Error, ErrorKind};
pub use image::{Config, Form, Image, PackSource, Root};
pub use options::{Limits, Options};
pub use platform::Platform;
pub use reference::Reference;
pub use store::Store;
