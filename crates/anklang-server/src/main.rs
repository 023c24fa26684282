//! The `anklang` program; see `anklang --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    anklang_server::cli::main()
}
