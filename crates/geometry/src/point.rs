//! Names become points at the edge of the plane.

use sha1::{Digest, Sha1};

use crate::address::Address;
use crate::degree::Degree;
use crate::distance::{Distance, distance};

/// Points of one name: SHA-1 gives five words of 32 bits.
pub const POINTS_PER_NAME: usize = 5;

/// Digits of a point. Trees of real peers end long before: even at degree 3 a peer would have to
/// agree with a point in 64 binary choices. Where one does lie deeper, its ancestor here binds.
pub const POINT_DEPTH: usize = 64;

/// A place for a name's records: a path of child indices, [`POINT_DEPTH`] levels deep.
///
/// # From a name to points
/// The SHA-1 hash of the name's bytes, in five big-endian words, gives five subkeys. Block `i` of a
/// subkey, from 0 on, is the SHA-1 hash of the 14 bytes `cloak point 1\n`, the subkey and `i`, both
/// as 32-bit big-endian numbers, and gives five big-endian words. Word `w` number `n` gives digit
/// `n` of the path: `floor(w * base / 2^32)`, where the base is the number of children of a peer at
/// that depth. Each digit is uniform to within 2^-32 for each child, whatever the digits before it,
/// so all children of a peer get the same share of names. (A uniform angle at the edge would give
/// the outer two of many children two thirds.) SHA-1 only places names; it protects nothing.
///
/// # The binder
/// The deepest existing peer on the path is the point's binder. The point is treated as what it is,
/// an address so deep that no peer has it: the distance from a peer is the distance to that
/// address. By the greedy property (see [`Degree`]) every peer that is not the binder has a
/// neighbour in the tree that exists and is strictly nearer: a child when the peer is on the path,
/// else its parent. All peers on the way to the binder are nearer one after the other, and whatever
/// extra links a peer uses, it can only stop at the binder. So every start finds the same one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualPoint {
    path: Address,
    degree: Degree,
}

impl VirtualPoint {
    /// The five points of a name in a realm of this degree. Names are hashed as they are: whoever
    /// calls brings them into their one form first.
    pub fn of_name(name: &[u8], degree: Degree) -> [Self; POINTS_PER_NAME] {
        subkeys(name).map(|subkey| Self::of_subkey(subkey, degree))
    }

    /// The point of one subkey.
    pub fn of_subkey(subkey: u32, degree: Degree) -> Self {
        let words = (0..).flat_map(|block| words(&block_of(subkey, block)));
        let digit = |(depth, word)| digit(word, degree.children_at(depth));
        let digits: Vec<u8> = words.take(POINT_DEPTH).enumerate().map(digit).collect();
        let path = Address::from_bytes(&digits, degree);
        Self { path: path.expect("invariant: digits are below their base"), degree }
    }

    /// The path to the point, as the address that a peer [`POINT_DEPTH`] levels deep would have.
    pub fn path(&self) -> &Address {
        &self.path
    }

    /// How far a peer is from the point.
    pub fn distance_from(&self, peer: &Address) -> Distance {
        distance(peer, &self.path, self.degree)
    }

    /// Whether a peer here would bind the point if no deeper one did.
    pub fn is_below(&self, peer: &Address) -> bool {
        self.path.as_bytes().starts_with(peer.as_bytes())
    }

    /// The binder among these peers; `None` when none of them is on the path, not even the root.
    pub fn binder<'a>(&self, peers: impl IntoIterator<Item = &'a Address>) -> Option<&'a Address> {
        peers.into_iter().filter(|peer| self.is_below(peer)).max_by_key(|peer| peer.depth())
    }
}

/// The five subkeys of a name.
fn subkeys(name: &[u8]) -> [u32; POINTS_PER_NAME] {
    words(&Sha1::digest(name).into())
}

fn block_of(subkey: u32, block: u32) -> [u8; 20] {
    let hash = Sha1::new_with_prefix(TAG);
    hash.chain_update(subkey.to_be_bytes()).chain_update(block.to_be_bytes()).finalize().into()
}

fn words(hash: &[u8; 20]) -> [u32; 5] {
    std::array::from_fn(|at| {
        let word = hash[4 * at..].first_chunk().expect("invariant: five words are 20 bytes");
        u32::from_be_bytes(*word)
    })
}

/// A uniform word as a uniform number in `0..base`.
fn digit(word: u32, base: u8) -> u8 {
    let scaled = (u64::from(word) * u64::from(base)) >> 32;
    u8::try_from(scaled).expect("invariant: the digit is below a base of one byte")
}

/// Keeps these hashes apart from all other uses of SHA-1, and the expansion apart from later ones.
const TAG: &[u8; 14] = b"cloak point 1\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subkeys_are_the_words_of_sha1() {
        // FIPS 180: the hash of "abc".
        let expected = [0xa999_3e36, 0x4706_816a, 0xba3e_2571, 0x7850_c26c, 0x9cd0_d89d];
        assert_eq!(subkeys(b"abc"), expected);
    }

    #[test]
    fn digits_cover_their_base() {
        assert_eq!((digit(0, 7), digit(u32::MAX, 7)), (0, 6));
        assert_eq!((digit(0x7fff_ffff, 64), digit(0x8000_0000, 64)), (31, 32));
    }

    #[test]
    fn the_deepest_peer_on_the_path_binds() {
        let degree = Degree::new(8).unwrap();
        let point = VirtualPoint::of_subkey(7, degree);
        let (near, far) = (point.path().ancestor_at(2), point.path().ancestor_at(3));
        let beside = far.parent().and_then(|up| up.child((far.index()? + 1) % 7, degree).ok());
        let peers = [far.clone(), Address::ROOT, near, beside.unwrap()];
        assert_eq!(point.binder(&peers), Some(&far));
        assert_eq!(point.binder(&peers[3..]), None);
        assert_eq!(point.path().depth(), POINT_DEPTH);
    }
}
