//! What `cata dev --demo` shows. Everything comes with the binary or from the host: nothing is downloaded.

use anyhow::{Context, Result};
use catamaran_image::{PackSource, Store};
use std::path::PathBuf;

/// `examples/hello/pod.yaml`, as it is.
pub(crate) const MANIFEST: &str = include_str!("../../../examples/hello/pod.yaml");
const HELLO_WASM: &[u8] = include_bytes!("../../../examples/hello/hello.wasm");

const WASM_IMAGE: &str = "catamaran.dev/demo/hello:v1";
const LINUX_IMAGE: &str = "catamaran.dev/demo/bash:v1";

/// Packs the demo's two images: the embedded wasm guest, and the host's bash with the libraries it needs.
pub(crate) async fn pack_images(images: &Store) -> Result<()> {
    let guest = tempfile::Builder::new()
        .suffix(".wasm")
        .tempfile()
        .context("cannot make a temporary file")?;
    std::fs::write(guest.path(), HELLO_WASM).context("cannot write the demo's wasm file")?;
    images
        .pack(&PackSource::Wasm(guest.path().to_owned()), WASM_IMAGE)
        .await
        .context("cannot pack the wasm image")?;
    println!("packed {WASM_IMAGE} ({} kB of wasm)", HELLO_WASM.len().div_ceil(1024));

    let bash = ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"]
        .into_iter()
        .map(PathBuf::from)
        .find(|p| p.exists());
    let bash =
        bash.context("the demo needs bash on this host (it becomes the Linux image); install it and try again")?;
    images
        .pack(&PackSource::FromHost(vec![bash.clone()]), LINUX_IMAGE)
        .await
        .context("cannot pack the Linux image")?;
    println!("packed {LINUX_IMAGE} from {}", bash.display());
    Ok(())
}
