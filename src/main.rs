//! The `heartwire` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    heartwire::cli::run().into()
}
