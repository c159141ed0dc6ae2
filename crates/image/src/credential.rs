//! Who we are at which registry.

/// What a registry may be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Pattern as in docker's `auths`: `host[:port][/path]`, host labels may be globs.
    pub registry: String,
    pub username: String,
    pub password: String,
    /// An OAuth2 refresh token that takes the place of name and password.
    pub identity_token: Option<String>,
}
