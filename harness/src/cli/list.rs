//! `deadbeat list`: what would run, and why not.

use std::fmt::Write;

use super::args::ListArgs;
use super::catalog::{self, Case, Catalog};
use super::doctor;
use super::exit::Exit;
use super::paint::Paint;
use crate::engine::fuse::FuseEngine;
use crate::engine::{Engine, Stop};
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
    let engine = doctor::usable_engine();
    let unmet: Vec<Option<String>> = catalog
        .subjects
        .iter()
        .map(|subject| setup::unmet_need(&subject.order(), &Stop::default()))
        .collect();
    let mut shown = String::new();
    for case in &catalog.cases {
        let skipped = reason(case, &unmet, engine.as_ref());
        show(&mut shown, &catalog, case, skipped.as_deref(), args.explain, paint);
    }
    super::print(&shown);
    Exit::Ok
}

/// Why the case would not run here.
fn reason(
    case: &Case,
    unmet: &[Option<String>],
    engine: Result<&FuseEngine, &String>,
) -> Option<String> {
    let trial = match &case.trial {
        Ok(trial) => trial,
        Err(reason) => return Some(reason.clone()),
    };
    let engine = match engine {
        Ok(engine) => engine,
        Err(why) => return Some(format!("no engine works here: {why}")),
    };
    unmet[case.subject].clone().or_else(|| engine.refuses(trial, None))
}

fn show(
    shown: &mut String,
    catalog: &Catalog,
    case: &Case,
    skipped: Option<&str>,
    explain: bool,
    paint: Paint,
) {
    let name = if explain { paint.bold(&case.name) } else { case.name.clone() };
    let padding = " ".repeat(44_usize.saturating_sub(case.name.chars().count()));
    let mut line = format!("{name}{padding} {}", case.label);
    if let Some(reason) = skipped {
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
    for warning in case.trial.iter().flat_map(|trial| &trial.warnings) {
        let _ = writeln!(shown, "    note: {}", printable(warning));
    }
}
