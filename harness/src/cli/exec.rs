//! `deadbeat exec`: one command under faults, with the user's terminal, environment and folder.
//!
//! Standard output is the command's. What deadbeat has to say goes to standard error, after the
//! command has ended, so that it does not tear what the command prints there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use super::args::ExecArgs;
use super::complain;
use super::exit::Exit;
use super::faults::{
    Asked, FaultsError, complain_of_faults, read_faults, read_injections, warn_of_faults,
};
use super::ledger::Ledger;
use super::places::below_root;
use crate::engine::EngineError;
use crate::engine::trace::outside::{Ended, Orders, run};
use crate::fault::Rule;

/// Exit codes of a command that could not be run, as of env(1) and every shell.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Does what `exec` was asked for.
pub(super) fn exec(args: &ExecArgs) -> ExitCode {
    let (faults, injections) = match read(args) {
        Ok(asked) => asked,
        Err(errors) => {
            complain_of_faults(&errors);
            return Exit::BadInput.into();
        }
    };
    let asked: Vec<Asked> = faults.iter().chain(&injections).cloned().collect();
    warn_of_faults(&asked);
    let argv: Vec<String> =
        args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let ledger = Ledger::open(("exec", &argv), &asked, Path::new("/"), args.log.as_deref(), false);
    let ledger = match ledger {
        Ok(ledger) => ledger,
        Err(error) => {
            eprintln!("error: the log cannot be written: {error}");
            return Exit::BadInput.into();
        }
    };
    let (rules, injected) = (rules_of(&faults), rules_of(&injections));
    let late = injections.iter().filter(|one| one.is_late).flat_map(|one| &one.rules);
    let late: BTreeSet<u32> = late.map(|rule| rule.number).collect();
    let orders = Orders {
        argv: &args.command,
        rules: &rules,
        injected: &injected,
        late: &late,
        watch_all: args.log.is_some(),
        kill_rest: args.kill_rest,
    };
    match run(&orders, ledger) {
        Ok((ended, ledger)) => conclude(args, &ended, &ledger),
        Err(error) => {
            complain(&error);
            eprintln!("(hint: {})", hint(&error));
            Exit::Inconclusive.into()
        }
    }
}

fn rules_of(asked: &[Asked]) -> Vec<Rule> {
    asked.iter().flat_map(|one| one.rules.clone()).collect()
}

/// Reads both kinds of faults, and says what strace would do more.
fn read(args: &ExecArgs) -> Result<(Vec<Asked>, Vec<Asked>), Vec<FaultsError>> {
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let faults = read_faults(&args.faults, |on| below_root(on, &here));
    let on = args.on.as_deref().map_or(Ok("**".to_owned()), |on| below_root(on, &here));
    let number = u32::try_from(args.faults.len()).unwrap_or(u32::MAX - 1) + 1;
    let injections = on
        .map_err(|why| vec![FaultsError::Place(why)])
        .and_then(|on| read_injections(&args.injections, number, &on));
    match (faults, injections) {
        (Ok(faults), Ok((injections, notes))) => {
            for note in notes {
                eprintln!("note: {note}");
            }
            Ok((faults, injections))
        }
        (faults, injections) => {
            let errors = faults.err().into_iter().chain(injections.err());
            Err(errors.flatten().collect())
        }
    }
}

fn conclude(args: &ExecArgs, ended: &Ended, ledger: &Ledger) -> ExitCode {
    let code = match ended {
        Ended::NotRun(error) => {
            eprintln!("error: `{}` cannot be run: {error}", args.command[0].display());
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            return ExitCode::from(if is_missing { NOT_FOUND } else { NOT_EXECUTABLE });
        }
        Ended::Code(code) => u8::try_from(*code & 0xff).expect("it was masked"),
        Ended::Signal(signal) => u8::try_from(128 + (*signal & 0x7f)).expect("it was masked"),
    };
    let all_fired = ledger.sum_up();
    if args.strict && !all_fired { Exit::Inconclusive.into() } else { ExitCode::from(code) }
}

fn hint(error: &EngineError) -> &'static str {
    match error {
        EngineError::Step { what, .. } if what.contains("PTRACE") => {
            "allow ptrace: `sysctl kernel.yama.ptrace_scope` below 2, in a container `--cap-add \
             SYS_PTRACE`; nothing can be traced twice, so not below strace or gdb"
        }
        _ => "`deadbeat doctor` says what this machine can do",
    }
}
