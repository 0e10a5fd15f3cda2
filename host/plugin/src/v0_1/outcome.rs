//! `wharf:plugin/outcome` and `wharf:plugin/log`.

use wasmtime::component::Resource;
use wasmtime::{Error, Result};

use super::bindings::wharf::plugin::{log, outcome};
use crate::sandbox::{CallState, LogLevel, ReportHandle};

impl outcome::Host for CallState {}

impl outcome::HostReport for CallState {
    fn reasons(&mut self, _: Resource<ReportHandle>, more: Vec<outcome::Reason>) -> Result<()> {
        self.charge()?;
        for outcome::Reason { code, text } in more {
            if !self.notes.reason(code, text).map_err(Error::new)? {
                return Err(Error::msg("the code of a reason has more than 64 bytes"));
            }
        }
        Ok(())
    }

    fn targets(&mut self, _: Resource<ReportHandle>) -> Result<Vec<String>> {
        self.charge()?;
        Ok(self.notes.targets.clone())
    }

    fn target(&mut self, _: Resource<ReportHandle>, name: String) -> Result<Result<(), String>> {
        self.charge()?;
        Ok(match self.notes.choose(&name) {
            true => Ok(()),
            false => Err(format!("the binding has no target `{name}`")),
        })
    }

    fn recheck_at_ms(&mut self, _: Resource<ReportHandle>, at: u64) -> Result<()> {
        self.charge()?;
        self.notes.recheck_at(at);
        Ok(())
    }

    fn drop(&mut self, _: Resource<ReportHandle>) -> Result<()> {
        Ok(())
    }
}

impl log::Host for CallState {
    fn write(&mut self, severity: log::Level, message: String) -> Result<()> {
        self.charge()?;
        let level = match severity {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.log.write(level, &message);
        Ok(())
    }
}
