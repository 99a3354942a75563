//! The `deadbeat` program. Everything is in the library; this file only says who takes over.
//!
//! The engine and the doctor start this same program again under names that no user types. Those
//! are told apart before any argument is parsed: what follows them is their own business.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    if let Some(code) = deadbeat::engine::inner(name, args.get(2..).unwrap_or_default()) {
        return code;
    }
    if name == "__probe" {
        return deadbeat::cli::probe(&args[2..]);
    }
    deadbeat::cli::main(&args)
}
