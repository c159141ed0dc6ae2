//! The pod network of one node.
//!
//! Every pod gets a network namespace, one veth pair, one address of the node's block, and egress through the host by
//! masquerade. Making a namespace and its wire costs the kernel 2 ms typically and 60 ms at worst, so a small pool of
//! wired namespaces stands ready and a pod only takes one.
//!
//! Nothing here outlives its owner by accident: a namespace in the pool is held by a file descriptor alone, so that it
//! and its veth pair vanish with the agent; once a pod shim has entered it, with the pod shim.
//!
//! *Architecture invariant:* this crate knows no pods and no Kubernetes. It never enters a namespace on a thread that
//! anything else uses, and never forks.

#![deny(unsafe_code)]

mod bridge;
mod dial;
mod ipam;
mod netlink;
mod nftables;
#[allow(unsafe_code, reason = "entering a network namespace has no safe interface")]
mod sys;
mod veth;
mod wiring;

pub use dial::{Dialer, Refused};
pub use ipam::{Ipv4Net, ParseNetError};

use ipam::Pool;
use parking_lot::Mutex;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wiring::Wiring;

/// Why the network could not be set up, or a pod not be wired.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {step}")]
    Netlink {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the masquerade rules")]
    Nftables {
        #[source]
        source: io::Error,
    },
    #[error("cannot create a network namespace")]
    Namespace {
        #[source]
        source: io::Error,
    },
    #[error("cannot enable IPv4 forwarding")]
    Forwarding {
        #[source]
        source: io::Error,
    },
    #[error("no free block in 10.42.0.0/16 for pods; choose one with --pod-cidr")]
    NoFreeBlock,
    #[error("the pod block {block} must be between /16 and /29")]
    BlockSize { block: Ipv4Net },
    #[error("all {capacity} pod addresses of {block} are in use")]
    Exhausted { block: Ipv4Net, capacity: u64 },
    #[error("cannot {step} {path}")]
    State {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the pod network was stopped")]
    Stopped,
}

/// What the network needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Eight hex digits that tell clusters on one machine apart; part of every name made here.
    pub instance: String,
    /// Where the chosen block is remembered (`network.json`).
    pub state_dir: PathBuf,
    /// The node's block; `None`: the remembered one, else the first free one.
    pub pod_cidr: Option<Ipv4Net>,
    /// How many wired namespaces stand ready.
    pub pool: usize,
}

/// A wired network namespace. Dropping the handle before a process entered it removes it.
#[derive(Debug)]
pub struct PodNet {
    pub netns: OwnedFd,
    pub ip: Ipv4Addr,
}

/// The running network. Dropping it stops the pool but leaves anchor, rules and pods in place.
pub struct PodNetwork {
    block: Ipv4Net,
    gateway: Ipv4Addr,
    instance: String,
    addresses: Arc<Mutex<Pool>>,
    ready: tokio::sync::Mutex<mpsc::Receiver<Result<PodNet, Error>>>,
    filler: JoinHandle<()>,
}

impl PodNetwork {
    /// Sets up the node's side and starts filling the pool. `in_use` are addresses of pods that run already.
    ///
    /// # Errors
    /// Whatever keeps pods from being wired. Missing masquerade support only costs egress: it is logged.
    pub async fn start(config: Config, in_use: Vec<Ipv4Addr>) -> Result<Self, Error> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&config, in_use))
            .await
            .map_err(|_| Error::Stopped)?
    }

    fn start_blocking(config: &Config, in_use: Vec<Ipv4Addr>) -> Result<Self, Error> {
        let mut wiring = Wiring::start(&config.instance)?;
        // Another cluster on this machine may be choosing a block too: one at a time, until the anchor shows the choice.
        let _choosing = lock_host()?;
        let block = choose_block(config, &mut wiring, in_use.is_empty())?;
        let pool = Pool::new(block, in_use);
        let gateway = pool.gateway();
        wiring.prepare_host(gateway, block)?;
        enable_forwarding()?;
        if let Err(error) = nftables::install_masquerade(&config.instance, block) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "pods have no egress beyond this machine"
            );
        }

        let addresses = Arc::new(Mutex::new(pool));
        let (sender, receiver) = mpsc::channel(config.pool.max(1));
        let filler = tokio::spawn(fill(wiring, Arc::clone(&addresses), block, sender));
        Ok(Self {
            block,
            gateway,
            instance: config.instance.clone(),
            addresses,
            ready: tokio::sync::Mutex::new(receiver),
            filler,
        })
    }

    /// The node's block (`spec.podCIDR` of the Node).
    pub fn cidr(&self) -> Ipv4Net {
        self.block
    }

    /// The host's address inside the block: pods reach the node there, and only this machine can.
    pub fn node_ip(&self) -> Ipv4Addr {
        self.gateway
    }

    /// A wired namespace with its address; the caller must [`release`](Self::release) the address in the end.
    pub async fn acquire(&self) -> Result<PodNet, Error> {
        next_of(&mut *self.ready.lock().await).await
    }

    /// Gives an address back. The namespace itself goes when the last process in it does.
    pub fn release(&self, ip: Ipv4Addr) {
        self.addresses.lock().give_back(ip);
    }

    /// Stops the pool; with `remove` also takes away anchor, links and rules.
    ///
    /// # Errors
    /// The first removal that failed; the others are tried all the same.
    pub async fn stop(self, remove: bool) -> Result<(), Error> {
        self.filler.abort();
        let instance = self.instance.clone();
        drop(self);
        if !remove {
            return Ok(());
        }
        tokio::task::spawn_blocking(move || cleanup(&instance))
            .await
            .map_err(|_| Error::Stopped)?
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        self.filler.abort();
    }
}

/// The next one that is ready. Failures in the pool may be of long ago, when all addresses were in use for example: they
/// are thrown away, and what is tried now counts.
async fn next_of<T>(ready: &mut mpsc::Receiver<Result<T, Error>>) -> Result<T, Error> {
    let mut next = ready.recv().await;
    if matches!(next, Some(Err(_))) {
        let mut others = std::iter::from_fn(|| ready.try_recv().ok());
        next = match others.find(Result::is_ok) {
            Some(made) => Some(made),
            None => ready.recv().await,
        };
    }
    next.unwrap_or(Err(Error::Stopped))
}

/// Keeps the pool full: the channel's capacity is the pool, a full channel is where this waits.
async fn fill(wiring: Wiring, addresses: Arc<Mutex<Pool>>, block: Ipv4Net, ready: mpsc::Sender<Result<PodNet, Error>>) {
    loop {
        let Ok(slot) = ready.reserve().await else { return };
        let (ip, capacity) = {
            let mut pool = addresses.lock();
            (pool.take(), pool.capacity())
        };
        let made = match ip {
            None => Err(Error::Exhausted { block, capacity }),
            Some(ip) => wiring.make(ip).await.inspect_err(|_| addresses.lock().give_back(ip)),
        };
        slot.send(made);
    }
}

/// The block asked for, else the remembered one, else the first free one. A remembered block that something else took
/// while this instance was down is given up, unless pods still use it.
fn choose_block(config: &Config, wiring: &mut Wiring, idle: bool) -> Result<Ipv4Net, Error> {
    let path = config.state_dir.join("network.json");
    let remembered = read_block(&path)?;
    let block = match config.pod_cidr.or(remembered) {
        Some(block) if config.pod_cidr.is_some() || !idle || wiring.anchor_exists()? => block,
        candidate => {
            let taken = wiring.reachable_blocks()?;
            let still_free =
                candidate.filter(|block| !taken.iter().any(|net| net.prefix() > 0 && net.overlaps(*block)));
            still_free
                .or_else(|| ipam::first_free_block(&taken))
                .ok_or(Error::NoFreeBlock)?
        }
    };
    if !(16..=29).contains(&block.prefix()) {
        return Err(Error::BlockSize { block });
    }
    if remembered != Some(block) {
        write_block(&path, block)?;
    }
    Ok(block)
}

/// Held while a block is chosen; released when dropped.
fn lock_host() -> Result<std::fs::File, Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    const PATH: &str = "/run/catamaran-network.lock";
    let lock = || {
        let mut options = std::fs::OpenOptions::new();
        // Private: whoever may open it for reading may hold it for ever.
        let file = options.create(true).append(true).mode(0o600).open(PATH)?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(|source| Error::State {
        step: "lock",
        path: PATH.into(),
        source,
    })
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Remembered {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
}

fn read_block(path: &Path) -> Result<Option<Ipv4Net>, Error> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::State {
                step: "read",
                path: path.to_owned(),
                source,
            });
        }
    };
    let parsed: Option<Ipv4Net> = serde_json::from_slice::<Remembered>(&text)
        .ok()
        .and_then(|remembered| remembered.pod_cidr.parse().ok());
    parsed.map(Some).ok_or_else(|| Error::State {
        step: "understand",
        path: path.to_owned(),
        source: io::ErrorKind::InvalidData.into(),
    })
}

fn write_block(path: &Path, block: Ipv4Net) -> Result<(), Error> {
    let write = || {
        let parent = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent)?;
        let temporary = path.with_extension("json.new");
        std::fs::write(
            &temporary,
            serde_json::to_vec(&Remembered {
                pod_cidr: block.to_string(),
            })?,
        )?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| Error::State {
        step: "write",
        path: path.to_owned(),
        source,
    })
}

fn enable_forwarding() -> Result<(), Error> {
    const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
    let enable = || {
        if std::fs::read_to_string(SWITCH)?.trim() == "0" {
            std::fs::write(SWITCH, "1")?;
        }
        Ok(())
    };
    enable().map_err(|source| Error::Forwarding { source })
}

/// Removes every link and rule of an instance, whoever left them. Fine when there are none.
///
/// # Errors
/// The first removal that failed; the others are tried all the same.
pub fn cleanup(instance: &str) -> Result<(), Error> {
    let links = wiring::remove_links(instance);
    let rules = nftables::remove(instance);
    links.and(rules)
}
