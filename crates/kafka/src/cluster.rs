//! Which cluster is meant and how to sign in: what sink and source say alike, as librdkafka's properties.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{ConfigError, Sasl, SaslMechanism, Scalar, Tls};
use crate::event_hubs::EventHubs;

/// Properties that follow from the fields that sink and source share.
const CLUSTER_OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "it is the field bootstrap_servers"),
    ("metadata.broker.list", "it is the field bootstrap_servers"),
    ("security.protocol", "it follows from the fields sasl and tls"),
    ("sasl.mechanism", "it is the field sasl.mechanism"),
    ("sasl.username", "it is the field sasl.username"),
    ("sasl.password", "it is the field sasl.password, where it is kept out of logs"),
    ("sasl.oauthbearer.client", "it is a field of sasl, where it is kept out of logs"),
    ("ssl.key.password", "it is the field tls.key_password, where it is kept out of logs"),
    ("test.mock", "the broker for trials is bootstrap_servers: embedded"),
];

/// The fields that say which cluster is meant, and how to sign in.
pub(crate) struct Cluster<'a> {
    pub(crate) bootstrap_servers: &'a Option<String>,
    pub(crate) event_hubs: &'a Option<EventHubs>,
    pub(crate) sasl: &'a Option<Sasl>,
    pub(crate) tls: &'a Option<Tls>,
}

impl Cluster<'_> {
    /// What follows from the fields, and the other `properties` but for those that are `owned`.
    pub(crate) fn client_config(
        &self,
        properties: &BTreeMap<String, Scalar>,
        owned: &'static [(&str, &str)],
        set: &mut impl FnMut(&str, String),
        errors: &mut Vec<ConfigError>,
    ) {
        set("socket.keepalive.enable", "true".into());
        // A broker that is back is found soon, before [`crate::watch`] takes the client for one that can't find any.
        set("reconnect.backoff.max.ms", "1000".into());
        match (self.event_hubs, self.bootstrap_servers) {
            (Some(hubs), None) => {
                if self.sasl.is_some() || self.tls.is_some() {
                    errors.push(ConfigError::fields("event_hubs", "event_hubs sets sasl and tls itself"));
                }
                hubs.client_config(properties, set, errors);
            }
            (None, Some(servers)) => {
                set("bootstrap.servers", servers.clone());
                set("security.protocol", self.security_protocol().into());
                errors.extend(self.sasl.as_ref().and_then(|sasl| sasl.client_config(set).err()));
                errors.extend(self.tls.as_ref().and_then(|tls| tls.client_config(set).err()));
            }
            (Some(_), Some(_)) => {
                errors.push(ConfigError::Exclusive { one: "bootstrap_servers", other: "event_hubs" });
            }
            (None, None) => errors.push(ConfigError::fields("", "bootstrap_servers or event_hubs is missing")),
        }
        for (name, value) in properties {
            match owned.iter().chain(CLUSTER_OWNED).find(|(owned, _)| name.starts_with(owned)) {
                Some((_, reason)) => errors.push(ConfigError::Owned { name: name.clone(), reason }),
                None => set(name, value.to_string()),
            }
        }
    }

    fn security_protocol(&self) -> &'static str {
        match (self.sasl.is_some(), self.tls.is_some()) {
            (false, false) => "plaintext",
            (false, true) => "ssl",
            (true, false) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        }
    }
}

impl Sasl {
    fn client_config(&self, set: &mut impl FnMut(&str, String)) -> Result<(), ConfigError> {
        set("sasl.mechanism", self.mechanism.name().into());
        match self.mechanism {
            SaslMechanism::Plain | SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => {
                let (Some(username), Some(password)) = (&self.username, &self.password) else {
                    return Err(self.needs("username and password"));
                };
                set("sasl.username", username.clone());
                set("sasl.password", password.read("sasl.password")?);
            }
            SaslMechanism::OauthBearer => {
                let (Some(id), Some(secret), Some(url)) =
                    (&self.client_id, &self.client_secret, &self.token_endpoint_url)
                else {
                    return Err(self.needs("client_id, client_secret and token_endpoint_url"));
                };
                set("sasl.oauthbearer.method", "oidc".into());
                set("sasl.oauthbearer.client.id", id.clone());
                set("sasl.oauthbearer.client.secret", secret.read("sasl.client_secret")?);
                set("sasl.oauthbearer.token.endpoint.url", url.clone());
                if let Some(scope) = &self.scope {
                    set("sasl.oauthbearer.scope", scope.clone());
                }
            }
        }
        Ok(())
    }

    fn needs(&self, fields: &str) -> ConfigError {
        ConfigError::fields("sasl", format!("sasl.mechanism {} needs {fields}", self.mechanism.name()))
    }
}

impl Tls {
    fn client_config(&self, set: &mut impl FnMut(&str, String)) -> Result<(), ConfigError> {
        if self.cert.is_some() != self.key.is_some() {
            return Err(ConfigError::fields("tls", "tls needs cert and key together"));
        }
        let mut set_path = |name: &str, path: &Option<PathBuf>| {
            if let Some(path) = path.as_deref().map(Path::to_string_lossy) {
                set(name, path.into_owned());
            }
        };
        set_path("ssl.ca.location", &self.ca);
        set_path("ssl.certificate.location", &self.cert);
        set_path("ssl.key.location", &self.key);
        if let Some(password) = &self.key_password {
            set("ssl.key.password", password.read("tls.key_password")?);
        }
        Ok(())
    }
}
