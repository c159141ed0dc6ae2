//! S1: durable writes per second of 1 kB, ours and etcd's, on the same disk, in turns.
//!
//! Ours is called in this process, as the API server calls it; etcd is reached over gRPC, as Kubernetes reaches it.

use crate::etcd::Etcd;
use crate::row::{Peer, Row, Target};
use anyhow::Result;
use bytes::Bytes;
use catamaran_store::Store;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LENGTH: Duration = Duration::from_secs(4);
const ROUNDS: usize = 2;
const VALUE_BYTES: usize = 1024;

pub(crate) async fn rows() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let etcd = Etcd::start().await;
    for writers in [16, 64, 640] {
        let (mut ours, mut theirs) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            ours += our_rate(writers).await? / ROUNDS as f64;
            if let Ok(etcd) = &etcd {
                theirs += etcd_rate(etcd, writers).await? / ROUNDS as f64;
            }
        }
        let target = match writers {
            640 => Target::Growth,
            _ => Target::AtLeastTimesPeer(1.5),
        };
        let peer = match &etcd {
            Ok(_) => Peer::Measured("etcd", theirs),
            Err(error) => Peer::Missing(format!("{error:#}")),
        };
        let what = format!("durable writes of 1 kB, {writers} writers");
        rows.push(
            Row::new(format!("S1.{writers}"), what, ours, "/s")
                .peer(peer)
                .target(target),
        );
    }
    Ok(rows)
}

async fn our_rate(writers: usize) -> Result<f64> {
    let directory = tempfile::tempdir_in(scratch())?;
    let store = catamaran_store::open(&format!("sqlite:{}", directory.path().join("state.db").display()))?;
    rate(writers, |writer| {
        let store: Arc<dyn Store> = Arc::clone(&store);
        let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
        async move |number: u64| {
            store
                .create(&format!("/bench/{writer}/{number}"), value.clone())
                .await?;
            Ok(())
        }
    })
    .await
}

async fn etcd_rate(etcd: &Etcd, writers: usize) -> Result<f64> {
    // As etcd's own benchmark does it: some connections, several writers on each.
    let connections = futures::future::try_join_all((0..8).map(|_| etcd.connect())).await?;
    rate(writers, |writer| {
        let connection = connections[writer % connections.len()].clone();
        async move |number: u64| {
            let mut connection = connection.clone();
            connection
                .put(&format!("/bench/{writer}/{number}"), &[b'x'; VALUE_BYTES])
                .await
        }
    })
    .await
}

/// Acknowledged operations per second of `writers` tasks, each of which has one under way at any time.
async fn rate<W>(writers: usize, writer: impl Fn(usize) -> W) -> Result<f64>
where
    W: AsyncFn(u64) -> Result<()>,
{
    let done = AtomicU64::new(0);
    let start = Instant::now();
    let tasks = (0..writers).map(|number| {
        let write = writer(number);
        let done = &done;
        async move {
            let mut count = 0;
            while start.elapsed() < LENGTH {
                write(count).await?;
                count += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(tasks).await?;
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

/// Not tmpfs: durability is what is measured.
pub(crate) fn scratch() -> &'static Path {
    Path::new("/var/tmp")
}
