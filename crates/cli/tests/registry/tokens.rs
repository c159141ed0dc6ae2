//! A token server as registries ask for one (distribution project, "Token Authentication Specification"). Whoever knows
//! the password may do everything, anybody else may pull what is below `public/`. `openssl` signs.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::common::{have, stdout};
use crate::server::{ISSUER, PASSWORD, SERVICE, USER};

pub(crate) struct TokenServer {
    pub(crate) realm: String,
    pub(crate) certificate: PathBuf,
    /// Who asked for what, as `user scope…`; a user without a name is `-`.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    _directory: tempfile::TempDir,
}

impl TokenServer {
    /// `None` (and the reason printed) where `openssl` is missing. Serves until the test's process ends.
    pub(crate) fn start() -> Option<Self> {
        if !have("openssl") {
            return None;
        }
        let directory = tempfile::tempdir().expect("directory");
        let (key, certificate) = (
            directory.path().join("key.pem"),
            directory.path().join("certificate.pem"),
        );
        let words = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=tokens";
        let mut request = Command::new("openssl");
        request
            .args(words.split(' '))
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        stdout(&mut request);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let realm = format!("http://{}/token", listener.local_addr().expect("address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (chain, log) = (chain(&certificate), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that went away is its own affair.
                let _ = answer(&stream, &key, &chain, &log);
            }
        });
        Some(Self {
            realm,
            certificate,
            asked,
            _directory: directory,
        })
    }
}

/// The certificate as the `x5c` header wants it.
fn chain(certificate: &Path) -> String {
    let text = std::fs::read_to_string(certificate).expect("certificate");
    text.lines().filter(|line| !line.starts_with('-')).collect()
}

fn answer(mut stream: &TcpStream, key: &Path, chain: &str, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut authorization = None;
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = Some(value.trim().to_owned());
        }
    }
    let query = request.split(' ').nth(1).and_then(|target| target.split_once('?'));
    let scopes = scopes(query.map_or("", |(_, query)| query));
    let right = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let (user, status, body) = match authorization {
        None => ("-", "200 OK", token(key, chain, "", &scopes)),
        Some(given) if given == right => (USER, "200 OK", token(key, chain, USER, &scopes)),
        Some(_) => (
            "?",
            "401 Unauthorized",
            json!({"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]}),
        ),
    };
    log.lock().expect("lock").push(format!("{user} {}", scopes.join(" ")));
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn scopes(query: &str) -> Vec<String> {
    let values = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    values
        .map(|value| value.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","))
        .collect()
}

fn token(key: &Path, chain: &str, user: &str, scopes: &[String]) -> Value {
    let access: Vec<Value> = scopes.iter().filter_map(|scope| grant(user, scope)).collect();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [chain]});
    let claims = json!({
        "iss": ISSUER, "sub": user, "aud": SERVICE, "jti": format!("{now}"),
        "nbf": now - 60, "iat": now - 60, "exp": now + 300, "access": access,
    });
    let signed = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
        .join(".");
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(key, &signed)));
    json!({"token": token, "expires_in": 300})
}

/// What of `repository:NAME:ACTIONS` a user may have.
fn grant(user: &str, scope: &str) -> Option<Value> {
    let mut parts = scope.splitn(3, ':');
    let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
    let mut actions: Vec<&str> = actions.split(',').collect();
    if user.is_empty() {
        actions.retain(|action| *action == "pull" && name.starts_with("public/"));
    }
    (!actions.is_empty()).then(|| json!({"type": kind, "name": name, "actions": actions}))
}

fn sign(key: &Path, text: &str) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-binary", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    let mut input = openssl.stdin.take().expect("stdin");
    input.write_all(text.as_bytes()).expect("write");
    drop(input);
    let output = openssl.wait_with_output().expect("openssl ends");
    assert!(output.status.success(), "openssl failed");
    output.stdout
}
