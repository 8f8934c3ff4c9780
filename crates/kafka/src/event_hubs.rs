//! Azure Event Hubs through its Kafka endpoint.
//!
//! Values follow Microsoft's recommended configurations: the service closes connections that are idle for 240 s,
//! those with a request above 1,046,528 bytes, and answers throttled requests late.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{ConfigError, Scalar};
use crate::secret::Secret;

/// Where the name space is, and exactly one way to sign in.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventHubs {
    /// `NAME`, or its whole host name where that doesn't end in `.servicebus.windows.net`.
    #[serde(default)]
    pub namespace: Option<String>,
    /// `Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…`; names the name space too.
    #[serde(default)]
    pub connection_string: Option<Secret>,
    /// Client credentials of Microsoft Entra ID.
    #[serde(default)]
    pub entra: Option<Entra>,
    /// The identity of the machine that this runs on.
    #[serde(default)]
    pub managed_identity: Option<ManagedIdentity>,
}

/// An application in Microsoft Entra ID; its role is *Azure Event Hubs Data Sender*, for a source *Data Receiver*.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entra {
    /// Directory (tenant) id.
    pub tenant: String,
    /// Application (client) id.
    pub client_id: String,
    /// A secret of the application.
    pub client_secret: Secret,
}

/// A managed identity of a virtual machine or its scale set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManagedIdentity {
    /// Which one, where the machine has several.
    #[serde(default)]
    pub client_id: Option<String>,
}

const FIXED: &[(&str, &str)] = &[
    ("security.protocol", "sasl_ssl"),
    ("socket.keepalive.enable", "true"),
    ("metadata.max.age.ms", "180000"),
    ("topic.metadata.refresh.interval.ms", "180000"),
    ("connections.max.idle.ms", "180000"),
    ("request.timeout.ms", "60000"),
    ("message.max.bytes", "1000000"),
];

impl EventHubs {
    pub(crate) fn client_config(
        &self,
        properties: &BTreeMap<String, Scalar>,
        set: &mut impl FnMut(&str, String),
        errors: &mut Vec<ConfigError>,
    ) {
        errors.extend(compression_errors(properties));
        for (name, value) in FIXED {
            set(name, (*value).to_owned());
        }
        errors.extend(self.sign_in(set).err());
    }

    fn sign_in(&self, set: &mut impl FnMut(&str, String)) -> Result<(), ConfigError> {
        match (&self.connection_string, &self.entra, &self.managed_identity) {
            (Some(secret), None, None) => {
                let connection_string = secret.read("event_hubs.connection_string")?;
                set("bootstrap.servers", format!("{}:9093", self.host_or(host_in(&connection_string)?)));
                set("sasl.mechanism", "PLAIN".into());
                set("sasl.username", "$ConnectionString".into());
                set("sasl.password", connection_string);
            }
            (None, Some(entra), None) => {
                let host = self.host()?;
                set("bootstrap.servers", format!("{host}:9093"));
                entra.client_config(&host, set)?;
            }
            (None, None, Some(identity)) => {
                let host = self.host()?;
                set("bootstrap.servers", format!("{host}:9093"));
                identity.client_config(&host, set);
            }
            _ => {
                let text = "event_hubs needs exactly one of connection_string, entra and managed_identity";
                return Err(ConfigError::fields("event_hubs", text));
            }
        }
        Ok(())
    }

    fn host(&self) -> Result<String, ConfigError> {
        match &self.namespace {
            Some(namespace) => Ok(host_name(namespace)),
            None => Err(ConfigError::fields("event_hubs", "event_hubs.namespace is missing")),
        }
    }

    fn host_or(&self, host: String) -> String {
        self.namespace.as_deref().map_or(host, host_name)
    }
}

impl Entra {
    fn client_config(&self, host: &str, set: &mut impl FnMut(&str, String)) -> Result<(), ConfigError> {
        set("sasl.mechanism", "OAUTHBEARER".into());
        set("sasl.oauthbearer.method", "oidc".into());
        set("sasl.oauthbearer.client.id", self.client_id.clone());
        set("sasl.oauthbearer.client.secret", self.client_secret.read("event_hubs.entra.client_secret")?);
        set("sasl.oauthbearer.scope", format!("https://{host}/.default"));
        let url = format!("https://login.microsoftonline.com/{}/oauth2/v2.0/token", self.tenant);
        set("sasl.oauthbearer.token.endpoint.url", url);
        Ok(())
    }
}

impl ManagedIdentity {
    fn client_config(&self, host: &str, set: &mut impl FnMut(&str, String)) {
        set("sasl.mechanism", "OAUTHBEARER".into());
        set("sasl.oauthbearer.method", "oidc".into());
        set("sasl.oauthbearer.metadata.authentication.type", "azure_imds".into());
        let client = self.client_id.as_ref().map(|id| format!("&client_id={id}")).unwrap_or_default();
        // librdkafka reads the key `query` here, though its introduction says `params`.
        let query = format!("query=api-version=2018-02-01&resource=https://{host}{client}");
        set("sasl.oauthbearer.config", query);
    }
}

fn host_name(namespace: &str) -> String {
    if namespace.contains('.') { namespace.to_owned() } else { format!("{namespace}.servicebus.windows.net") }
}

fn host_in(connection_string: &str) -> Result<String, ConfigError> {
    connection_string
        .split(';')
        .find_map(|part| part.trim().strip_prefix("Endpoint=sb://"))
        .map(|host| host.trim_end_matches('/').to_owned())
        .filter(|host| !host.is_empty())
        .ok_or_else(|| {
            let path = "event_hubs.connection_string";
            ConfigError::fields(path, format!("{path} has no part Endpoint=sb://HOST/"))
        })
}

fn compression_errors(properties: &BTreeMap<String, Scalar>) -> impl Iterator<Item = ConfigError> {
    let given = ["compression.type", "compression.codec"].into_iter();
    given
        .filter(|name| {
            let value = properties.get(*name).map(Scalar::to_string);
            value.is_some_and(|value| !matches!(value.as_str(), "none" | "gzip"))
        })
        .map(|name| {
            let text = "Event Hubs takes none, and gzip where its tier is Premium or Dedicated".to_owned();
            ConfigError::Property { name: name.to_owned(), text }
        })
}
