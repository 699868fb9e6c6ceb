//! The config's words as the parts' own.

use crate::config::{self, AccessLog, LogFormat, LogLevel, OriginText};
use crate::net::upstream::{Origin, Upstream, UpstreamIx};
use crate::route;
use crate::telemetry::log::{Access, Format, LogOptions};

/// `[log]` for the telemetry.
#[must_use]
pub(super) fn log(options: &config::LogOptions) -> LogOptions {
    let level = match options.level {
        LogLevel::Off => "off",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    LogOptions {
        level: level.to_owned(),
        format: match options.format {
            LogFormat::Auto => Format::Auto,
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        access: match &options.access {
            AccessLog::Stdout => Access::Stdout,
            AccessLog::Off => Access::Off,
            AccessLog::File(path) => Access::File(path.clone()),
        },
    }
}

/// The origins of all apps as upstreams.
#[must_use]
pub(super) fn upstreams(origins: &[(route::UpstreamIx, OriginText)]) -> Vec<Upstream> {
    let origin = |text: &OriginText| {
        text.as_str().parse().unwrap_or_else(|_| Origin::Memory(text.as_str().to_owned()))
    };
    origins.iter().map(|(ix, text)| Upstream::new(UpstreamIx(ix.0), origin(text))).collect()
}
