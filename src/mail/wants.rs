//! What somebody wants of a message: a set, and what that may bring.

use std::ops::BitOr;

/// What is fetched ahead of one part, or of a message as it is, at the most: from there on its own reader is followed.
pub const MAX_OBJECT: u64 = 4 << 20;

/// The same of all parts of a message.
pub const MAX_MESSAGE: u64 = 16 << 20;

/// What a large message counts for of which sizes are wanted, texts, small parts as well, and the beginnings of large ones,
/// octets.
const SIZES_COST: u64 = 16 << 10;
const TEXTS_COST: u64 = 64 << 10;
const SMALL_COST: u64 = 96 << 10;
const HEADS_COST: u64 = 192 << 10;

/// Messages up to this size may be nothing but text, and their parts come whole: the kernel reads so much for who only looks.
const MIDDLE: u64 = 352 << 10;

/// Kinds of things that may be wanted: the bits of [`Wants`].
pub(super) const KINDS: usize = 11;

/// What is wanted of a message, and what that tells of the next ones: a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants(pub(super) u16);

impl Wants {
    /// How it is built.
    pub const STRUCTURE: Self = Self(1);
    /// Its header and texts.
    pub const TEXTS: Self = Self(2);
    /// The exact sizes of its other parts.
    pub const SIZES: Self = Self(4);
    /// The octets of its other parts, those of large ones at their beginning.
    pub const PARTS: Self = Self(8);
    /// A little more of large parts, for who reads much at once.
    pub const MUCH: Self = Self(1024);
    /// Large parts to their end.
    pub const THROUGH: Self = Self(16);
    /// The message as it is.
    pub const WHOLE: Self = Self(32);
    /// The octets of its other parts, only those that are small.
    pub const SMALL: Self = Self(64);
    /// Not a want: it has other parts.
    pub const HAS_PARTS: Self = Self(128);
    /// Not a want: it has no other parts, and the sizes of all that it has were asked for.
    pub const ALL_SIZES: Self = Self(256);
    /// Not a want: it has no other parts, and all that it has was read.
    pub const ALL_READ: Self = Self(512);
    /// What brings parts, or tells of them.
    pub const OF_PARTS: Self = Self(4 | 8 | 16 | 64);

    /// What is to be fetched.
    pub(super) fn fetched(self) -> Self {
        self.without(Self::HAS_PARTS | Self::ALL_SIZES | Self::ALL_READ)
    }

    /// Does only the structure of a message tell what there is to fetch?
    pub fn needs_structure(self) -> bool {
        !self.without(Self::STRUCTURE | Self::WHOLE).is_empty()
    }

    /// Is all of `other` in it?
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Is anything of `other` in it?
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What is in it and in `other`.
    pub fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in it and not in `other`.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Nothing?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What it may bring of a message of so many octets, about.
    pub(super) fn cost(self, size: u64) -> u64 {
        let large = match () {
            () if self.intersects(Self::THROUGH) => return size.min(MAX_MESSAGE),
            () if self.intersects(Self::WHOLE) => return size.min(MAX_OBJECT),
            () if self.intersects(Self::PARTS) => HEADS_COST,
            () if self.intersects(Self::SMALL) => SMALL_COST,
            () if self.intersects(Self::TEXTS) => TEXTS_COST,
            () if self.intersects(Self::SIZES) => return size.min(SIZES_COST),
            () => return 0,
        };
        if size > MIDDLE { large } else { size }
    }
}

impl BitOr for Wants {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
