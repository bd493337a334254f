//! The `cloak` command.
fn main() {}
