//! The `heartwire` binary; everything is in the library.

use std::process::ExitCode;

/// glibc's allocator keeps the holes that short-lived request buffers leave between the small,
/// long-lived pieces of a socket: twice the memory per idle socket.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    heartwire::cli::run().into()
}
