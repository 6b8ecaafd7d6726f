//! The outputs of the log, the metrics and the notifications, made from the settings.

use crate::{
    config::{LogLevel, Settings},
    report::{Console, Level, MetricsOutputs, Outputs},
};

/// The outputs that `settings` name.
pub(super) fn outputs(settings: &Settings) -> Outputs {
    Outputs {
        console: Console::Stderr,
        file: settings.log.file.clone(),
        format: settings.log.format,
        system_log: settings.log.system_log,
        level: match settings.log.level {
            LogLevel::Debug => Level::Debug,
            LogLevel::Info => Level::Info,
            LogLevel::Warning => Level::Warning,
            LogLevel::Error => Level::Error,
        },
        lines_per_minute: settings.log.lines_per_minute,
        metrics: MetricsOutputs {
            textfile: settings.metrics.textfile.clone(),
            listen: settings.metrics.listen.clone(),
        },
        notify: settings.notify.clone(),
        ..Outputs::default()
    }
}
