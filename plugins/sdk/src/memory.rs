//! The memory of a strategy: an arena that is there from the start, and growth for whoever needs more.
//!
//! Every call is a fresh instance, and to grow its memory is a system call of the host's, which costs more than the call itself and keeps two cores from working side by side.
//! So what a usual call allocates fits the arena, which the host has ready with the instance.
//! Not for what an author does with memory: it is the global allocator of every component that uses the SDK, and nobody calls it by name.
#![expect(
    unsafe_code,
    reason = "an allocator hands out raw memory; the library's contract is stated at each place"
)]

use std::alloc::Layout;
use std::arch::wasm32::{memory_grow, memory_size};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// Bytes that are there without growth: three times what a purchase takes. A batch to settle grows, which costs each of its requests next to nothing.
const ARENA_BYTES: usize = 6 << 10;
/// Bytes of a page of Wasm, and of the least growth.
const PAGE_BYTES: usize = 64 << 10;
/// Bytes of a growth beyond what was asked for, to hold the allocator's own marks.
const MARKS_BYTES: usize = 64;

#[global_allocator]
static ALLOCATOR: TalcSyncCell<ArenaThenGrowth, WasmBinning> =
    TalcSyncCell::new_wasm(ArenaThenGrowth {
        arena: Some(&raw mut ARENA),
        end: None,
    });

/// Tells `bundle` that it may count this memory in bytes, since its allocator can: a custom section of the module.
#[used]
#[unsafe(link_section = "timesale-memory-in-bytes")]
static IN_BYTES: [u8; 1] = [1];

static mut ARENA: [MaybeUninit<u8>; ARENA_BYTES] = [MaybeUninit::uninit(); ARENA_BYTES];

/// Gives the allocator the arena first, and pages of new memory after.
#[derive(Debug)]
struct ArenaThenGrowth {
    /// The arena, until it is given.
    arena: Option<*mut [MaybeUninit<u8>; ARENA_BYTES]>,
    /// Where the memory that was grown ends.
    end: Option<NonNull<u8>>,
}

// SAFETY: `acquire` neither allocates nor reaches the allocator but through `talc`.
unsafe impl Source for ArenaThenGrowth {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        if let Some(arena) = talc.source.arena.take() {
            // SAFETY: nobody else names the arena, and it is given once.
            return match unsafe { talc.claim(arena.cast(), ARENA_BYTES) } {
                Some(_) => Ok(()),
                None => Err(()),
            };
        }
        let wanted = layout.size() + layout.align() + MARKS_BYTES;
        let (grown, unit) = (wanted.next_multiple_of(PAGE_BYTES), unit());
        let before = memory_grow::<0>(grown / unit);
        if before == usize::MAX {
            return Err(());
        }
        let base = (before * unit) as *mut u8;
        let end = match talc.source.end.take() {
            // SAFETY: the bytes from `base` on are new, and the allocator's memory ends where they begin.
            Some(end) if end.as_ptr() == base => unsafe { talc.extend(end, base.add(grown)) },
            // SAFETY: the bytes from `base` on are new, and nobody else knows of them.
            _ => unsafe { talc.claim(base, grown) }.ok_or(())?,
        };
        talc.source.end = Some(end);
        Ok(())
    }
}

/// Bytes of what this memory is counted in: one where `bundle` made the component, a page where something else did.
fn unit() -> usize {
    unsafe extern "C" {
        static __heap_base: u8;
    }
    // A memory begins with all that lies before its heap, so where it has less of its unit than there are bytes, the unit is larger.
    // No memory has as many pages: the host's bound is lower.
    if memory_size::<0>() < (&raw const __heap_base).addr() {
        PAGE_BYTES
    } else {
        1
    }
}
