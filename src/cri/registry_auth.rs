//! Credentials for a registry.

use std::fmt;

/// What a pull may show to registries (CRI `AuthConfig`). Empty fields are not given.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
    /// `username:password` in base64.
    pub auth: String,
    /// The registry it is for; empty: whichever is asked.
    pub server_address: String,
    /// An OAuth2 refresh token.
    pub identity_token: String,
    /// A bearer token to show as it is.
    pub registry_token: String,
}

impl fmt::Debug for RegistryAuth {
    /// Without secrets: this ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}
