//! The outputs of the log, the metrics and the notifications, made from the settings.

use crate::{
    config::{LogFormat, LogLevel, Settings},
    report::{Console, Format, Level, MetricsOutputs, NotifyOutputs, Outputs},
};

/// The outputs that `settings` name.
pub(super) fn outputs(settings: &Settings) -> Outputs {
    Outputs {
        console: Console::Stderr,
        file: settings.log.file.clone(),
        format: match settings.log.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
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
        notify: NotifyOutputs {
            interval: settings.notify.interval,
            mail: settings.notify.mail.clone(),
            hook: settings.notify.hook.clone(),
            terminal: settings.notify.terminal,
        },
        ..Outputs::default()
    }
}
