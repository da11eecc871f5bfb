//! The bound on what a guest's memories and tables may grow to.

use wasmtime::ResourceLimiter;

/// Counts linear memory and refuses what is beyond the bound.
pub struct MemoryBound {
    /// Bytes that it may have.
    pub max: usize,
    /// Bytes that it has, over all its memories: they never shrink.
    pub used: usize,
    /// Whether it was refused any.
    pub refused: bool,
}

/// Entries that each of a guest's tables may hold; a component of some 100 KB has a few hundred.
pub const TABLE_ELEMENTS_MAX: usize = 20_000;

impl ResourceLimiter for MemoryBound {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = (self.used.saturating_sub(current)).saturating_add(desired);
        let granted = total <= self.max;
        self.refused |= !granted;
        if granted {
            self.used = total;
        }
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}
