//! Rebuilds when a migration changes; the migrator's macro alone does not notice a new file.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
