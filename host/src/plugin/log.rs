//! What plugins log, as lines of the server's own log.

use wharf_plugin::{LogLevel, LogLine};

/// Of which plugin the lines are, and about which image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) plugin: &'a str,
    pub(super) version: &'a str,
    pub(super) image: &'a str,
}

/// Writes the lines of one call. They may hold what the image's author wrote, so they are a quoted field, never the message:
/// nothing in them can pass for a line of the server's.
pub(super) fn write(call: Call<'_>, lines: &[LogLine], dropped_bytes: usize) {
    let Call { plugin, version, image } = call;
    for line in lines {
        let said = line.message.trim_end();
        match line.level {
            LogLevel::Debug => tracing::debug!(plugin, version, image, said, "plugin"),
            LogLevel::Info => tracing::info!(plugin, version, image, said, "plugin"),
            LogLevel::Warn => tracing::warn!(plugin, version, image, said, "plugin"),
            LogLevel::Error => tracing::error!(plugin, version, image, said, "plugin"),
        }
    }
    if dropped_bytes > 0 {
        tracing::warn!(plugin, version, image, dropped_bytes, "plugin logs more than `log_bytes`");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(lines: &[LogLine], dropped_bytes: usize) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().without_time().with_ansi(false);
        tracing::subscriber::with_default(subscriber.with_writer(move || writer.clone()).finish(), || {
            write(Call { plugin: "few-highs", version: "0.1.0", image: "sha256:4f53" }, lines, dropped_bytes);
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_plugin_speaks_under_its_name_and_in_quotes() {
        let line = |level, message: &str| LogLine { level, message: message.to_owned() };
        let forged = "boom\n2026-11-25T23:16:40Z  INFO wharf: all is well\u{1b}[2J\n";
        let lines = [line(LogLevel::Info, "2 are high"), line(LogLevel::Error, forged)];
        insta::assert_snapshot!(logged(&lines, 7), @r#"
         INFO wharf::plugin::log: plugin plugin="few-highs" version="0.1.0" image="sha256:4f53" said="2 are high"
        ERROR wharf::plugin::log: plugin plugin="few-highs" version="0.1.0" image="sha256:4f53" said="boom\n2026-11-25T23:16:40Z  INFO wharf: all is well\u{1b}[2J"
         WARN wharf::plugin::log: plugin logs more than `log_bytes` plugin="few-highs" version="0.1.0" image="sha256:4f53" dropped_bytes=7
        "#);
        assert!(logged(&[line(LogLevel::Debug, "hidden by the default level")], 0).is_empty());
    }
}
