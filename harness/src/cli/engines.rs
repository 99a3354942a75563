//! Which engine carries a run out: the one that was named, or trace, or what trace cannot do, fuse.

use std::path::Path;
use std::sync::OnceLock;

use super::args::EngineName;
use super::doctor;
use crate::engine::fuse::FuseEngine;
use crate::engine::trace::TraceEngine;
use crate::engine::{Engine, file_system_of};
use crate::plan::Trial;

/// The engines that may be used, each tried once, when it is first needed.
#[derive(Debug)]
pub(super) struct Engines {
    choice: EngineName,
    trace: OnceLock<Result<TraceEngine, String>>,
    fuse: OnceLock<Result<FuseEngine, String>>,
}

impl Engines {
    /// Tries what was asked for; `required` must work even where it is not used.
    ///
    /// # Errors
    /// None that may be used works here, or one that is required does not; with the remedy.
    pub(super) fn new(choice: EngineName, required: &[String]) -> Result<Engines, String> {
        let engines = Engines { choice, trace: OnceLock::new(), fuse: OnceLock::new() };
        for name in required {
            match name.as_str() {
                "trace" => engines.trace().map(|_| ()),
                "fuse" => engines.fuse().map(|_| ()),
                "auto" => Ok(()),
                _ => Err(format!("the required engine `{name}` is not known\n(hint: there are `trace` and `fuse`)")),
            }
            .map_err(|why| required_is_missing(name, &why))?;
        }
        match choice {
            EngineName::Trace => drop(engines.trace()?),
            EngineName::Fuse => drop(engines.fuse()?),
            EngineName::Auto => {
                if let (Err(trace), Err(fuse)) = (engines.trace(), engines.fuse()) {
                    return Err(format!("no engine works here: {trace}\n{fuse}"));
                }
            }
        }
        Ok(engines)
    }

    /// The name of the engine that is used where nothing speaks against it.
    pub(super) fn name(&self) -> &'static str {
        match self.choice {
            EngineName::Trace => "trace",
            EngineName::Fuse => "fuse",
            EngineName::Auto if self.trace().is_ok() => "trace",
            EngineName::Auto => "fuse",
        }
    }

    /// What every run of that engine lacks here.
    pub(super) fn caveats(&self) -> &[String] {
        self.preferred().map_or(&[], Engine::caveats)
    }

    /// The file system that runs of that engine lie on.
    pub(super) fn file_system(&self, scratch: Option<&Path>) -> String {
        self.preferred().map_or_else(|_| file_system_of(scratch), |it| it.file_system(scratch))
    }

    /// The engine for a trial.
    ///
    /// # Errors
    /// None can carry it out: the reason, as the preferred one has it.
    pub(super) fn engine_for(
        &self,
        trial: &Trial,
        scratch: Option<&Path>,
    ) -> Result<&dyn Engine, String> {
        let preferred = self.preferred()?;
        let Some(reason) = preferred.refuses(trial, scratch) else { return Ok(preferred) };
        if self.choice != EngineName::Auto || preferred.name() == "fuse" {
            return Err(reason);
        }
        match self.fuse() {
            Ok(fuse) if fuse.refuses(trial, scratch).is_none() => Ok(fuse),
            _ => Err(reason),
        }
    }

    fn preferred(&self) -> Result<&dyn Engine, String> {
        match self.name() {
            "trace" => self.trace().map(|engine| engine as &dyn Engine),
            _ => self.fuse().map(|engine| engine as &dyn Engine),
        }
    }

    fn trace(&self) -> Result<&TraceEngine, String> {
        let tried = self.trace.get_or_init(|| {
            TraceEngine::probe().map_err(|why| {
                format!("the trace engine does not work here: {why}\n(hint: see `deadbeat doctor`)")
            })
        });
        tried.as_ref().map_err(Clone::clone)
    }

    fn fuse(&self) -> Result<&FuseEngine, String> {
        let tried = self.fuse.get_or_init(|| {
            doctor::usable_fuse().map_err(|why| {
                format!("the fuse engine does not work here: {why}\n(hint: see `deadbeat doctor`)")
            })
        });
        tried.as_ref().map_err(Clone::clone)
    }
}

fn required_is_missing(name: &str, why: &str) -> String {
    format!("the engine `{name}` is required, but: {why}")
}
