//! Durable writes per second of 1 kB (budget S1): `bench_writes PATH WRITERS SECONDS [VALUE_BYTES]`.
//!
//! Each writer writes keys of its own, one after the other, as clients of an API server do. Prints one JSON line.

use bytes::Bytes;
use catamaran_store::{Options, Sqlite, Store};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, writers, seconds, rest @ ..] = &arguments[..] else {
        return Err("usage: bench_writes PATH WRITERS SECONDS [VALUE_BYTES]".into());
    };
    let writers: usize = writers.parse()?;
    let length = Duration::from_secs_f64(seconds.parse()?);
    let value_bytes: usize = rest.first().map_or(Ok(1_024), |bytes| bytes.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(Path::new(path), writers, length, value_bytes))
}

async fn measure(
    path: &Path,
    writers: usize,
    length: Duration,
    value_bytes: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(Sqlite::open(path, &Options::default())?);
    let value = Bytes::from(vec![b'x'; value_bytes]);
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| tokio::spawn(write(Arc::clone(&store), writer, value.clone(), start + length)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let percentile = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!(
        "{{\"writers\":{writers},\"value_bytes\":{value_bytes},\"seconds\":{seconds:.2},\"writes\":{},\
         \"writes_per_second\":{:.0},\"p50_ms\":{:.3},\"p99_ms\":{:.3}}}",
        latencies.len(),
        latencies.len() as f64 / seconds,
        percentile(50),
        percentile(99),
    );
    Ok(())
}

async fn write(
    store: Arc<Sqlite>,
    writer: usize,
    value: Bytes,
    until: Instant,
) -> Result<Vec<Duration>, catamaran_store::Error> {
    let mut latencies = Vec::new();
    for index in 0_u64.. {
        let start = Instant::now();
        if start >= until {
            break;
        }
        store
            .create(&format!("/bench/{writer:04}/{index:08}"), value.clone())
            .await?;
        latencies.push(start.elapsed());
    }
    Ok(latencies)
}
