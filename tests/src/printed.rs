//! Lines that a document prints for the reader to type, looked up there before a test runs them.

use crate::binary::workspace;

/// The line that begins with `start` in a shell block of a document, named by its path in the tree.
///
/// # Panics
/// When the document prints no such line.
#[track_caller]
#[must_use]
pub fn line(document: &str, start: &str) -> String {
    let text = std::fs::read_to_string(workspace().join(document)).expect("the document is there");
    let mut blocks = text.split("```");
    let found = blocks.find_map(|block| {
        let mut lines = block.strip_prefix("sh\n")?.lines();
        lines.find(|line| line.starts_with(start)).map(str::to_owned)
    });
    found.unwrap_or_else(|| panic!("{document} prints no `{start}`"))
}
