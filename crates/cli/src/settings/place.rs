//! Where in a TOML text a key stands, and how an error points at it.
//!
//! The crates' `Config` structs carry no positions. An error names the key by its path, and the
//! path is looked up again in the text.

use std::fmt::{self, Write};
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A step of a path to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A key of a table.
    Key(&'a str),
    /// An element of an array.
    At(usize),
}

/// The bytes where the value at `path` stands. Where the path ends early, the last part of it that
/// is there; `None` when nothing of it is, as for a value that came from a flag.
pub(crate) fn locate(text: &str, path: &[Step<'_>]) -> Option<Range<usize>> {
    nearest(text, path).map(|(span, _)| span)
}

/// Whether the text has a value at `path`.
pub(crate) fn is_set(text: &str, path: &[Step<'_>]) -> bool {
    nearest(text, path).is_some_and(|(_, steps)| steps == path.len())
}

/// The deepest value on `path`, and how many steps lead to it.
fn nearest(text: &str, path: &[Step<'_>]) -> Option<(Range<usize>, usize)> {
    let root = DeTable::parse(text).ok()?;
    let (Step::Key(first), rest) = path.split_first()? else { return None };
    let mut value = root.get_ref().get(*first)?;
    let mut steps = 1;
    for step in rest {
        let next = match (value.get_ref(), step) {
            (DeValue::Table(table), Step::Key(key)) => table.get(*key),
            (DeValue::Array(array), Step::At(index)) => array.get(*index),
            _ => None,
        };
        let Some(next) = next else { break };
        value = next;
        steps += 1;
    }
    Some((value.span(), steps))
}

/// An error at a place of a text, in the form of the TOML parser's own errors.
pub(crate) fn point(text: &str, span: Range<usize>, message: impl fmt::Display) -> String {
    let start = span.start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let number = text[..start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count();
    let line_end = line_start + line.len();
    let width = text[start..span.end.clamp(start, line_end.max(start))].chars().count().max(1);

    let margin = " ".repeat(number.to_string().len());
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "error at line {number}, column {}\n{margin} |\n{number} | {line}\n{margin} | {}{}\n{message}",
        column + 1,
        " ".repeat(column),
        "^".repeat(width),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[proxy]\nlisten = [\"a\", \"bé\"]\n\n[[service]]\nport = 80\n\
                        [[service]]\nport = 81 # x\n";

    #[test]
    fn paths_lead_to_their_value() {
        for (path, found) in [
            (&[Step::Key("proxy"), Step::Key("listen"), Step::At(1)][..], Some("\"bé\"")),
            (&[Step::Key("service"), Step::At(1), Step::Key("port")], Some("81")),
            (&[Step::Key("proxy"), Step::Key("users"), Step::At(0)], Some("[proxy]")),
            (&[Step::Key("outbound")], None),
            (&[], None),
        ] {
            assert_eq!(locate(TEXT, path).map(|span| &TEXT[span]), found, "{path:?}");
        }
        assert!(is_set(TEXT, &[Step::Key("proxy"), Step::Key("listen")]));
        assert!(!is_set(TEXT, &[Step::Key("proxy"), Step::Key("users")]));
    }

    #[test]
    fn errors_point_at_line_and_column() {
        let span = locate(TEXT, &[Step::Key("proxy"), Step::Key("listen"), Step::At(1)]).unwrap();
        assert_eq!(
            point(TEXT, span, "no such address"),
            "error at line 2, column 16\n  |\n2 | listen = [\"a\", \"bé\"]\n  \
             |                ^^^^\nno such address",
        );
        assert!(point("", 0..0, "empty").starts_with("error at line 1, column 1\n"));
        assert!(point("a\nb", 0..3, "both").contains("| ^\n"));
    }
}
