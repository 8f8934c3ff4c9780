//! Files that the pipeline names are relative to it, wherever the program was started.

use std::path::{Path, PathBuf};

use jaiminho_kafka::Secret;

use super::component::{KafkaConfig, Sink, Source};
use super::model::Pipeline;

/// Makes every path absolute, or relative to the present folder. (Mappings are read relative to it by their owner.)
pub(super) fn resolve(pipeline: &mut Pipeline, base_dir: &Path) {
    let join = |path: &mut PathBuf| *path = base_dir.join(&*path);
    for stage in pipeline.stages.values_mut() {
        if let Some(tls) = &mut stage.tls {
            [&mut tls.ca, &mut tls.cert, &mut tls.key].into_iter().flatten().for_each(join);
        }
        if let Some(Source::Ingest(ingest)) = &mut stage.source {
            ingest.tokens_file.iter_mut().for_each(join);
        }
        if let Some(Sink::Kafka(kafka)) = &mut stage.sink {
            if let Some(tls) = &mut kafka.tls {
                [&mut tls.ca, &mut tls.cert, &mut tls.key].into_iter().flatten().for_each(join);
            }
            for secret in secrets(kafka) {
                if let Secret::File(file) = secret {
                    join(&mut file.file);
                }
            }
        }
    }
}

fn secrets(kafka: &mut KafkaConfig) -> impl Iterator<Item = &mut Secret> {
    let tls = kafka.tls.as_mut().and_then(|tls| tls.key_password.as_mut());
    let sasl = kafka.sasl.as_mut().map(|sasl| [&mut sasl.password, &mut sasl.client_secret]);
    let hubs = kafka.event_hubs.as_mut().map(|hubs| {
        let entra = hubs.entra.as_mut().map(|entra| &mut entra.client_secret);
        [hubs.connection_string.as_mut(), entra]
    });
    tls.into_iter().chain(sasl.into_iter().flatten().flatten()).chain(hubs.into_iter().flatten().flatten())
}
