//! Choices out of an input's bytes. What is not there is 0, so that every input means something
//! and short ones mean little.

/// The bytes that are left.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.u8()) % bound
    }

    /// One of several things; `None` of none.
    pub(crate) fn pick<'b, T>(&mut self, things: &'b [T]) -> Option<&'b T> {
        let index = if things.is_empty() { return None } else { self.below(things.len()) };
        things.get(index)
    }

    /// At most `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    /// A serial number: near `base`, near the wrap, or any.
    pub(crate) fn serial(&mut self, base: u32) -> u32 {
        match self.u8() {
            choice @ 0..=159 => base.wrapping_add(u32::from(choice % 16)),
            choice @ 160..=207 => base.wrapping_sub(u32::from(choice % 16)),
            choice @ 208..=223 => u32::MAX - u32::from(choice % 16),
            choice @ 224..=239 => (1 << 31) - 8 + u32::from(choice % 16),
            _ => self.u32(),
        }
    }
}
