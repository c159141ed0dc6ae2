//! Images: what containers are made from.
//!
//! A [`Store`] is one directory of content-addressed blobs, names and unpacked layers. It is filled from registries
//! ([`Store::pull`]), archives ([`Store::import`]) or this machine ([`Store::pack`]) and then needs none of them: a pod's
//! image comes from here ([`Store::get`], [`Store::root`]) whether or not its registry still exists. The agent and the
//! `cata image` verbs open the same directory at the same time; files appear whole or not at all, and `flock`s, which die
//! with their process, order the few operations that need an order.
#![forbid(unsafe_code)]

mod catalog;
mod collect;
mod config;
mod content;
mod credential;
mod digest;
mod error;
mod form;
mod image;
mod import;
mod layers;
mod lease;
mod lock;
mod manifest;
mod options;
mod pack;
mod platform;
mod pull;
mod push;
mod reference;
mod registry;
mod store;
#[cfg(test)]
mod test_support;
mod unpack;

pub use collect::Collected;
pub use credential::Credential;
pub use digest::Digest;
pub use error::{Error, ErrorKind};
pub use image::{Config, Form, Image, PackSource, Root};
pub use options::{Limits, Options};
pub use platform::Platform;
pub use reference::Reference;
pub use store::{Removed, Store};
