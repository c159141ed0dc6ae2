//! What one instance sees of the world: arguments, environment, files, streams, sockets, and its share of memory.

use crate::limits::{Budget, Limiter};
use crate::stdio::Streams;
use std::path::Path;
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Store data of a core module.
pub(crate) struct CoreGuest {
    pub wasi: WasiP1Ctx,
    pub limiter: Limiter,
}

/// Store data of a component.
pub(crate) struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    pub limiter: Limiter,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: Default::default(),
        }
    }
}

/// A directory handed to the guest, by its path in the container's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestDir {
    pub path: String,
    pub read_only: bool,
}

/// Everything needed to make store data, once per program and once per request of a service.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub args: Vec<String>,
    /// Name and value.
    pub env: Vec<(String, String)>,
    /// In the order of the guest's descriptors.
    pub dirs: Vec<GuestDir>,
    pub cwd: Option<String>,
    pub budget: Arc<Budget>,
    /// Services share their thread between requests; a program may block it.
    pub may_block: bool,
}

impl World {
    pub(crate) fn core_guest(&self) -> wasmtime::Result<CoreGuest> {
        Ok(CoreGuest {
            wasi: self.builder(Streams::All)?.build_p1(),
            limiter: Limiter::new(&self.budget),
        })
    }

    pub(crate) fn guest(&self, streams: Streams) -> wasmtime::Result<Guest> {
        Ok(Guest {
            wasi: self.builder(streams)?.build(),
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            limiter: Limiter::new(&self.budget),
        })
    }

    fn builder(&self, streams: Streams) -> wasmtime::Result<WasiCtxBuilder> {
        let mut builder = WasiCtx::builder();
        streams.connect(&mut builder);
        builder
            .args(&self.args)
            .envs(&self.env)
            .allow_blocking_current_thread(self.may_block);
        builder
            .inherit_network()
            .allow_ip_name_lookup(true)
            .allow_tcp(true)
            .allow_udp(true);
        if let Some(cwd) = &self.cwd {
            builder.initial_cwd(cwd);
        }
        for dir in &self.dirs {
            let perms = if dir.read_only {
                FsPerms::ReadOnly
            } else {
                FsPerms::ReadWrite
            };
            builder
                .preopened_dir(Path::new(&dir.path), &dir.path, perms)
                .map_err(|error| error.context(format!("cannot open the directory {}", dir.path)))?;
        }
        Ok(builder)
    }
}

/// Splits `NAME=value`. An entry without `=` is a name with an empty value, as `env(1)` would show it.
pub(crate) fn split_env(env: &[String]) -> Vec<(String, String)> {
    env.iter()
        .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_entries_split_at_the_first_equals_sign() {
        let env = ["A=1".to_owned(), "B=x=y".to_owned(), "C".to_owned()];
        let expected = [("A", "1"), ("B", "x=y"), ("C", "")];
        assert_eq!(
            split_env(&env),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
