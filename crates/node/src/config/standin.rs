//! TEMPORARY stand-ins.
use schemars::JsonSchema;
use serde::Deserialize;
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateConfig { pub(crate) rate: Option<f64>, pub(crate) count: Option<u64> }
#[derive(Debug, Deserialize, JsonSchema, PartialEq, Clone, Copy)]
#[serde(rename_all="lowercase")]
pub(crate) enum Ack { Published, Accepted }
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http { pub(crate) listen: Option<String>, pub(crate) path: Option<String>, pub(crate) deadline: Option<jaiminho_event::units::HumanDuration> }
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngestConfig { pub(crate) acknowledge: Option<Ack>, pub(crate) http: Option<Http>, pub(crate) websocket: Option<Http> }
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaConfig { pub(crate) bootstrap_servers: String, pub(crate) topic: String, pub(crate) topics_max: Option<u32>, pub(crate) properties: Option<std::collections::BTreeMap<String,String>> }
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StdoutConfig {}
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileConfig { pub(crate) path: String }
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlackholeConfig {}
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum TransformConfig { One(Step), Many(Vec<Step>) }
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all="snake_case")]
pub(crate) enum Step { Vrl(Vrl), Filter(String) }
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all="snake_case")]
pub(crate) enum Vrl { File(String), Inline(String) }
impl IngestConfig { pub(crate) fn answers_early(&self) -> bool { self.acknowledge == Some(Ack::Accepted) } }
