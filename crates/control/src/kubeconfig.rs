//! The file by which `kubectl` and everybody else finds the server and proves to be the admin.

use crate::pki::Pair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;
use std::path::Path;

/// Where clients on this machine find a server that listens on `address`.
pub(crate) fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(loopback);
    }
    format!("https://{address}")
}

/// The content for a server that listens on `address`.
pub(crate) fn render(address: SocketAddr, ca_pem: &str, admin: &Pair) -> String {
    let server = url(address);
    let (ca, cert, key) = (
        STANDARD.encode(ca_pem),
        STANDARD.encode(&admin.cert_pem),
        STANDARD.encode(&admin.key_pem),
    );
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: catamaran\n\
         clusters:\n\
         - name: catamaran\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
         contexts:\n\
         - name: catamaran\n  context:\n    cluster: catamaran\n    user: catamaran-admin\n\
         users:\n\
         - name: catamaran-admin\n  user:\n    client-certificate-data: {cert}\n    client-key-data: {key}\n"
    )
}

/// The port of the server in a file that [`render`] made. `None` if it is not there or somebody changed it.
pub(crate) fn port(path: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(path).ok()?;
    let server = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: https://"))?;
    server.parse::<SocketAddr>().ok().map(|address| address.port())
}
