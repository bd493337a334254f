//! Child indices in a row: short ones without an allocation, long ones shared.

use std::sync::Arc;

/// Indices held inline, so that a path is three words. Real trees are rarely deeper.
pub(crate) const INLINE_MAX: usize = 22;

/// An immutable row of bytes, cheap to clone. Up to [`INLINE_MAX`] are always inline.
#[derive(Clone)]
pub(crate) enum Path {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Shared(Arc<[u8]>),
}

impl Path {
    pub(crate) const EMPTY: Self = Self::Inline { len: 0, bytes: [0; INLINE_MAX] };

    pub(crate) fn new(indices: &[u8]) -> Self {
        match u8::try_from(indices.len()) {
            Ok(len) if indices.len() <= INLINE_MAX => {
                let mut bytes = [0; INLINE_MAX];
                bytes[..indices.len()].copy_from_slice(indices);
                Self::Inline { len, bytes }
            }
            _ => Self::Shared(indices.into()),
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Shared(indices) => indices,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_three_words_and_hold_what_they_are_given() {
        assert_eq!(size_of::<Path>(), 24);
        let indices: Vec<u8> = (0..60).collect();
        for len in [0, 1, INLINE_MAX, INLINE_MAX + 1, 60] {
            let path = Path::new(&indices[..len]);
            assert_eq!(path.as_slice(), &indices[..len]);
            assert_eq!(matches!(path, Path::Inline { .. }), len <= INLINE_MAX);
        }
        assert!(Path::EMPTY.as_slice().is_empty());
    }
}
