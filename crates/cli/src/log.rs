//! Logs: to stderr, as text or JSON, at the level of `[log]` or `CLOAK_LOG`.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// `[log]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// Form of a line.
    pub(crate) format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives as in `info,cloak_node=debug`.
    /// `CLOAK_LOG` overrides it.
    pub(crate) level: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people and journals.
    Text,
    /// One object in each line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// Overrides the configured level.
const LEVEL_VARIABLE: &str = "CLOAK_LOG";

/// Starts logging for this process. A second call changes nothing.
pub(crate) fn start(config: &LogConfig) {
    let asked = std::env::var(LEVEL_VARIABLE).ok().filter(|level| is_level(level));
    let level = asked.unwrap_or_else(|| config.level.clone());
    // Fails only when logging was started before.
    let _ = subscriber(&LogConfig { level, ..config.clone() }, std::io::stderr).try_init();
}

/// Whether `level` is made of directives that can be read.
pub(crate) fn is_level(level: &str) -> bool {
    EnvFilter::builder().parse(level).is_ok()
}

fn subscriber<W>(config: &LogConfig, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = EnvFilter::builder()
        .parse(&config.level)
        .unwrap_or_else(|_| EnvFilter::new(LogConfig::default().level));
    let lines = match config.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            fmt::layer().with_writer(writer).with_ansi(colours).boxed()
        }
        LogFormat::Json => fmt::layer().with_writer(writer).json().boxed(),
    };
    tracing_subscriber::registry().with(level).with(filter_fn(is_harmless)).with(lines)
}

/// The SOCKS library writes user names and passwords at `debug`: those lines never pass, whatever
/// the level asks for.
fn is_harmless(line: &Metadata<'_>) -> bool {
    !line.target().starts_with("fast_socks5") || *line.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let path = std::env::temp_dir().join(format!("cloak-log-{}", std::process::id()));
        for (format, level) in [
            (LogFormat::Text, "trace"),
            (LogFormat::Text, "fast_socks5::server=trace"),
            (LogFormat::Json, "[handshake]=trace"),
        ] {
            let file = Arc::new(File::create(&path).unwrap());
            let config = LogConfig { format, level: level.to_owned() };
            tracing::subscriber::with_default(subscriber(&config, file), || {
                let _inside = tracing::error_span!("handshake").entered();
                tracing::debug!(target: "fast_socks5::server", "password bytes: hunter2");
                tracing::info!(target: "fast_socks5::server", "harmless");
            });
            let lines = std::fs::read_to_string(&path).unwrap();
            assert!(lines.contains("harmless") && !lines.contains("hunter2"), "{level}: {lines}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn levels_are_checked() {
        assert!(is_level("info") && is_level("warn,cloak_node=debug"));
        assert!(!is_level("info=loud") && !is_level("cloak_node=very"));
    }
}
