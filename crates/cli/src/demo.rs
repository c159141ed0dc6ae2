//! What `cata dev --demo` shows. Everything comes with the binary or from the host: nothing is downloaded.

use crate::apply::{self, Applied};
use crate::client::discovery::Catalogue;
use crate::client::refusal::Refusal;
use crate::client::{Connection, query_string, watch};
use anyhow::{Context, Result};
use catamaran_image::{PackSource, Store};
use http::Method;
use serde_json::Value;
use std::path::PathBuf;

/// `examples/hello/pod.yaml`, as it is.
pub(crate) const MANIFEST: &str = include_str!("../../../examples/hello/pod.yaml");
const HELLO_WASM: &[u8] = include_bytes!("../../../examples/hello/hello.wasm");

/// Repositories of this program's own images; nobody else's pods run them.
const OWN_IMAGES: &str = "catamaran.dev/demo/";
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

/// Applies a manifest of the demo. A pod that another version of this program left, and that cannot be changed into this
/// one, makes room for it; somebody else's pod of the same name stays, and the error is the server's.
pub(crate) async fn apply(connection: &Connection, catalogue: &Catalogue, manifest: &Value) -> Result<Applied> {
    let options = apply::Options::default();
    let refused = match apply::apply(connection, catalogue, manifest, options).await {
        Err(error) if is_invalid(&error) => error,
        outcome => return outcome,
    };
    let resource = catalogue.by_kind("v1", "Pod")?;
    let namespace = connection.namespace_of(manifest)?;
    let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("{}/{name}", resource.path(Some(namespace)));
    if manifest["kind"] != "Pod" || !is_own(&connection.json(Method::GET, &path, None).await?) {
        return Err(refused);
    }
    println!("pod/{name} is of another version of the demo and cannot be changed into this one: replacing it");
    let query = query_string(&[("gracePeriodSeconds", "1")]);
    connection
        .json(Method::DELETE, &format!("{path}?{query}"), None)
        .await?;
    watch::wait_for_object(connection, resource, namespace, name, |_| Ok(()), |pod| pod.is_none()).await?;
    apply::apply(connection, catalogue, manifest, options).await
}

fn is_invalid(error: &anyhow::Error) -> bool {
    let refusal = error.chain().find_map(|cause| cause.downcast_ref::<Refusal>());
    refusal.is_some_and(|refusal| refusal.reason == "Invalid")
}

/// Every container of the pod runs one of this program's images.
fn is_own(pod: &Value) -> bool {
    let containers = pod["spec"]["containers"].as_array();
    containers.is_some_and(|all| {
        all.iter().all(|container| {
            container["image"]
                .as_str()
                .is_some_and(|image| image.starts_with(OWN_IMAGES))
        })
    })
}
