//! Talks to registries.
use crate::{Error, Options};

#[derive(Debug)]
pub(crate) struct Client;

impl Client {
    pub(crate) fn new(_options: &Options) -> Result<Client, Error> {
        Ok(Client)
    }
}
