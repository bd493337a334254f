//! Virtual addresses: paths of child indices from the tree's root.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::degree::Degree;
use crate::path::Path;

/// The deepest an address can be. A tree of a million peers is some tens of levels deep; the limit
/// bounds messages and the work for one distance.
pub const DEPTH_MAX: usize = 1024;

/// A place in the tree: the child index taken at each level, the root being the empty path.
///
/// Every index is valid for the [`Degree`] that the address was made with; a realm has one degree,
/// so it is not kept here. Addresses order as in a walk of the tree in which parents come before
/// children. As text `0.3.12`, and `root` for the root; as bytes one byte for each index.
#[derive(Clone)]
pub struct Address(Path);

/// Why something is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Deeper than [`DEPTH_MAX`]. A joiner must look for a place elsewhere.
    #[error("an address has at most {DEPTH_MAX} levels")]
    TooDeep,
    /// A child index that a peer of that depth does not have.
    #[error("no child {index} at depth {depth} in a tree of degree {degree}")]
    NoSuchChild {
        /// The index in question.
        index: u8,
        /// Depth of the peer whose child it would be.
        depth: usize,
        /// The tree's degree.
        degree: Degree,
    },
    /// A text that is not `root` or decimal numbers with a point between any two.
    #[error("not an address: numbers with points between them, or `root`, were expected")]
    BadText,
}

impl Address {
    /// The root's address.
    pub const ROOT: Self = Self(Path::EMPTY);

    /// The address with these child indices, the root's child first: the form on the wire.
    ///
    /// # Errors
    /// When there are too many, or one is not valid for `degree`.
    pub fn from_bytes(indices: &[u8], degree: Degree) -> Result<Self, AddressError> {
        if indices.len() > DEPTH_MAX {
            return Err(AddressError::TooDeep);
        }
        for (depth, index) in indices.iter().enumerate() {
            check(*index, depth, degree)?;
        }
        Ok(Self(Path::new(indices)))
    }

    /// Reads what `Display` writes.
    ///
    /// # Errors
    /// When it is not in that form, or not valid for `degree`.
    pub fn parse(text: &str, degree: Degree) -> Result<Self, AddressError> {
        if text == ROOT_TEXT {
            return Ok(Self::ROOT);
        }
        let mut indices = Vec::new();
        for number in text.split('.').take(DEPTH_MAX + 1) {
            indices.push(parse_index(number).ok_or(AddressError::BadText)?);
        }
        Self::from_bytes(&indices, degree)
    }

    /// The child indices, the root's child first.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// The number of levels below the root.
    pub fn depth(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether this is the root's address.
    pub fn is_root(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The address one level up; `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        self.as_bytes().split_last().map(|(_, above)| Self(Path::new(above)))
    }

    /// The ancestor at `depth`, or the address itself when it is no deeper than that.
    pub fn ancestor_at(&self, depth: usize) -> Self {
        self.as_bytes().get(..depth).map_or_else(|| self.clone(), |above| Self(Path::new(above)))
    }

    /// The address of child `index`.
    ///
    /// # Errors
    /// When a peer here has no such child in a tree of `degree`, or it would be too deep.
    pub fn child(&self, index: u8, degree: Degree) -> Result<Self, AddressError> {
        if self.depth() >= DEPTH_MAX {
            return Err(AddressError::TooDeep);
        }
        check(index, self.depth(), degree)?;
        let mut indices = Vec::with_capacity(self.depth() + 1);
        indices.extend_from_slice(self.as_bytes());
        indices.push(index);
        Ok(Self(Path::new(&indices)))
    }

    /// The index under which the parent knows this peer; `None` at the root.
    pub fn index(&self) -> Option<u8> {
        self.as_bytes().last().copied()
    }

    /// The depth of the lowest common ancestor.
    pub fn common_prefix_len(&self, other: &Self) -> usize {
        self.as_bytes().iter().zip(other.as_bytes()).take_while(|(a, b)| a == b).count()
    }

    /// Whether `other` lies strictly below this address.
    pub fn is_ancestor_of(&self, other: &Self) -> bool {
        self.depth() < other.depth() && other.as_bytes().starts_with(self.as_bytes())
    }

    /// The number of tree edges between the two addresses.
    pub fn hops_to(&self, other: &Self) -> usize {
        self.depth() + other.depth() - 2 * self.common_prefix_len(other)
    }

    /// The neighbour in the tree that is next on the way to `destination`: a child when that lies
    /// below, else the parent; `None` when it is this very address.
    pub fn next_towards(&self, destination: &Self) -> Option<Self> {
        if self == destination {
            None
        } else if self.is_ancestor_of(destination) {
            Some(destination.ancestor_at(self.depth() + 1))
        } else {
            self.parent()
        }
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Address {}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.as_bytes().split_first() else {
            return f.write_str(ROOT_TEXT);
        };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|index| write!(f, ".{index}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

const ROOT_TEXT: &str = "root";

fn check(index: u8, depth: usize, degree: Degree) -> Result<(), AddressError> {
    if index < degree.children_at(depth) {
        return Ok(());
    }
    Err(AddressError::NoSuchChild { index, depth, degree })
}

/// A decimal number without sign or leading zeros, so that an address has one text.
fn parse_index(number: &str) -> Option<u8> {
    let canonical = number.bytes().all(|byte| byte.is_ascii_digit())
        && (number == "0" || !number.starts_with('0'));
    number.parse().ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Degree = match Degree::new(4) {
        Ok(degree) => degree,
        Err(_) => Degree::MIN,
    };

    fn address(text: &str) -> Address {
        Address::parse(text, FOUR).unwrap()
    }

    #[test]
    fn only_the_root_has_as_many_children_as_the_degree() {
        assert_eq!(address("3.2.0").as_bytes(), [3, 2, 0]);
        let error = AddressError::NoSuchChild { index: 3, depth: 1, degree: FOUR };
        assert_eq!(Address::from_bytes(&[3, 3], FOUR), Err(error));
        assert_eq!(address("3").child(3, FOUR), Err(error));
        assert_eq!(error.to_string(), "no child 3 at depth 1 in a tree of degree 4");
    }

    #[test]
    fn text_has_one_form() {
        for text in ["root", "0", "3.2.0.1"] {
            assert_eq!(address(text).to_string(), text);
        }
        for bad in ["", ".", "0.", ".0", "00", "0.01", "+1", "-1", "1 ", "256", "Root", "0.x"] {
            assert_eq!(Address::parse(bad, FOUR), Err(AddressError::BadText), "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deepest = Address::from_bytes(&[0; DEPTH_MAX], FOUR).unwrap();
        assert_eq!(deepest.child(0, FOUR), Err(AddressError::TooDeep));
        assert_eq!(Address::from_bytes(&[0; DEPTH_MAX + 1], FOUR), Err(AddressError::TooDeep));
        let text = format!("{deepest}.0");
        assert_eq!(Address::parse(&text, FOUR), Err(AddressError::TooDeep));
        assert_eq!(Address::parse(&deepest.to_string(), FOUR), Ok(deepest));
    }

    #[test]
    fn relatives() {
        let (a, b) = (address("1.2.0"), address("1.0"));
        assert_eq!(a.common_prefix_len(&b), 1);
        assert_eq!(a.hops_to(&b), 3);
        assert_eq!(a.parent(), Some(address("1.2")));
        assert_eq!(a.ancestor_at(1), address("1"));
        assert_eq!(a.ancestor_at(9), a);
        assert!(address("1").is_ancestor_of(&a) && Address::ROOT.is_ancestor_of(&a));
        assert!(!a.is_ancestor_of(&a) && !b.is_ancestor_of(&a));
        assert_eq!(b.next_towards(&a), Some(address("1")));
        assert_eq!(address("1").next_towards(&a), Some(address("1.2")));
        assert_eq!(a.next_towards(&a), None);
        assert_eq!(Address::ROOT.parent(), None);
        assert!(address("1") < a && b < a && Address::ROOT < b);
    }
}
