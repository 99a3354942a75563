//! The command line: the only place that prints or exits.
//!
//! Every command ends in an `exit::Exit`. What goes to standard output is what was asked for;
//! progress, warnings and errors go to standard error.

mod adapter;
mod args;
mod catalog;
mod checklist;
mod doctor;
mod engines;
mod exec;
mod exit;
mod faults;
mod gap_update;
mod ledger;
mod list;
mod mount;
mod outdir;
mod paint;
mod places;
mod pool;
mod present;
mod probe;
mod progress;
mod run;
mod signals;
mod sys;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::scenario::library::LibraryError;
use crate::scenario::schema::{schema_scenario, schema_subject};
use args::{Cli, Command, SchemaFormat};
use exit::Exit;
use paint::Paint;

/// Parses `args`, does what they say, and gives the program's exit code.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed standard output is no reason to fail twice.
            let _ = error.print();
            return if error.use_stderr() { Exit::BadInput.into() } else { Exit::Ok.into() };
        }
    };
    paint::set_choice(cli.color);
    let paint = Paint::for_stdout();
    match cli.command {
        Command::Run(args) => run::run(&args, paint).into(),
        Command::List(args) => list::list(&args, paint).into(),
        Command::Checklist(args) => checklist::checklist(&args, paint).into(),
        Command::Schema { format } => {
            let schema = match format {
                SchemaFormat::Scenario => schema_scenario(),
                SchemaFormat::Subject => schema_subject(),
            };
            print(&format!("{schema:#}\n"));
            Exit::Ok.into()
        }
        Command::Exec(args) => exec::exec(&args),
        Command::Mount(args) => mount::mount(&args).into(),
        Command::Doctor => doctor::doctor(paint).into(),
        Command::Witness { line } => adapted(adapter::witness(&line.join(" "))),
        Command::Cs { command } if command.is_empty() => adapted(adapter::critical_section()),
        Command::Cs { command } => adapted(adapter::around(&command)),
        Command::Subject { name, args } => subject(&name, &args),
    }
}

/// One process of an embedded subject.
fn subject(name: &str, args: &[OsString]) -> ExitCode {
    let variant = args.first().and_then(|word| word.to_str()).unwrap_or_default();
    let played = match name {
        "zoo" => deadbeat_zoo::adapter(variant),
        "reference" => Some(deadbeat_reference::adapter::main()),
        _ => None,
    };
    played.unwrap_or_else(|| {
        eprintln!("error: there is no embedded subject `{name} {variant}`");
        Exit::BadInput.into()
    })
}

/// One probe of `doctor`, in a process of its own.
#[must_use]
pub fn probe(args: &[OsString]) -> ExitCode {
    match probe::perform(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The end of an adapter's command: exit 1 is the adapter's failure, as CONTRACTS has it.
fn adapted(done: Result<(), adapter::AdapterError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output. Who reads only the first lines of it (`| head`) is no error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints what is wrong with a file, with the marked text, or with a word of the command line.
fn complain_of_selection(error: &LibraryError) {
    match error {
        LibraryError::Mistakes(mistakes) => {
            eprintln!("{}", mistakes.render(Paint::for_stderr().is_on()));
        }
        other => complain(other),
    }
}

/// Prints an error and what caused it, hints last.
pub(crate) fn complain(error: &dyn Error) {
    eprintln!("error: {}", chain(error));
}

/// An error and its causes in one line, with its hint below.
fn chain(error: &dyn Error) -> String {
    let text = error.to_string();
    let (head, hint) = match text.split_once('\n') {
        Some((head, hint)) => (head.to_owned(), format!("\n{hint}")),
        None => (text, String::new()),
    };
    let mut causes = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    format!("{head}{causes}{hint}")
}
