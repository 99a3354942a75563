//! `deadbeat list`: what would run, and why not.

use std::fmt::Write;

use super::args::EngineName;
use super::args::ListArgs;
use super::catalog::{self, Case, Catalog};
use super::engines::Engines;
use super::exit::Exit;
use super::paint::Paint;
use crate::engine::Stop;
use crate::engine::exceptions::exception;
use crate::setup::{self, printable};

/// Prints one line a case; with `--explain`, what it is about and what it is for as well.
pub(super) fn list(args: &ListArgs, paint: Paint) -> Exit {
    let catalog = match catalog::select(&args.selection) {
        Ok(catalog) => catalog,
        Err(error) => {
            super::complain_of_selection(&error);
            return Exit::BadInput;
        }
    };
    let engines = Engines::new(EngineName::Auto, &[]);
    let unmet: Vec<Option<String>> = catalog
        .subjects
        .iter()
        .map(|subject| setup::unmet_need(&subject.order(), &Stop::default()))
        .collect();
    let mut shown = String::new();
    for case in &catalog.cases {
        let carried = carrier(case, &unmet, engines.as_ref());
        show(&mut shown, &catalog, case, &carried, args.explain, paint);
    }
    super::print(&shown);
    Exit::Ok
}

/// The engine that would carry the case out here, or why none would.
fn carrier(
    case: &Case,
    unmet: &[Option<String>],
    engines: Result<&Engines, &String>,
) -> Result<&'static str, String> {
    let trial = case.trial.as_ref().map_err(Clone::clone)?;
    let engines = engines.map_err(Clone::clone)?;
    match &unmet[case.subject] {
        Some(why) => Err(why.clone()),
        None => engines.engine_for(trial, None).map(|engine| engine.name()),
    }
}

fn show(
    shown: &mut String,
    catalog: &Catalog,
    case: &Case,
    carried: &Result<&'static str, String>,
    explain: bool,
    paint: Paint,
) {
    let name = if explain { paint.bold(&case.name) } else { case.name.clone() };
    let padding = " ".repeat(44_usize.saturating_sub(case.name.chars().count()));
    let mut line = format!("{name}{padding} {}", case.label);
    if let Err(reason) = carried {
        let reason = printable(reason.lines().next().unwrap_or_default());
        let _ = write!(line, "  {}", paint.warn(&format!("skipped: {reason}")));
    }
    let _ = writeln!(shown, "{line}");
    if !explain {
        return;
    }
    let scenario = &catalog.scenarios[case.scenario];
    let covers: Vec<&str> = scenario.covers.iter().map(|covers| covers.as_str()).collect();
    let _ = writeln!(shown, "    {}", printable(&scenario.title));
    let _ = writeln!(shown, "    why: {}", printable(&scenario.why));
    let _ = writeln!(shown, "    covers: {}", covers.join(", "));
    if let Ok(engine) = carried {
        let _ = writeln!(shown, "    engine: {engine}");
    }
    if let Some(exception) = exception(&case.name, &case.label) {
        let _ = writeln!(shown, "    the engines may differ: {}", exception.reason);
    }
    for warning in case.trial.iter().flat_map(|trial| &trial.warnings) {
        let _ = writeln!(shown, "    note: {}", printable(warning));
    }
}
