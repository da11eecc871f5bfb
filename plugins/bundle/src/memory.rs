//! A module's memory, cut to what the module begins with.
//!
//! Every call is a fresh instance, whose memory is cleared whole, and crowds the processor's caches while the call waits.
//! Linkers make it of pages of 64 KiB; with pages of one byte, which the [custom-page-sizes] proposal allows, a usual strategy has 24 KiB.
//! Called by `component`, before it makes a component of the module.
//!
//! [custom-page-sizes]: https://github.com/WebAssembly/custom-page-sizes

use anyhow::{Context, Result, bail};
use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{MemoryType, Module};
use wasmparser::{ExternalKind, Operator, Parser, Payload};

/// The custom section of modules whose allocator can grow a memory that is counted in bytes; that of others would take a byte for a page.
const IN_BYTES: &str = "timesale-memory-in-bytes";
/// The global by which linkers tell where a module's heap begins: behind its stack and its data.
const HEAP_BASE: &str = "__heap_base";

/// The module with a memory that ends where its heap begins, and grows by the byte; as it is where its allocator does not ask for that.
pub fn cut(core: Vec<u8>) -> Result<Vec<u8>> {
    let Some(bytes) = wanted(&core)? else {
        return Ok(core);
    };
    let mut module = Module::new();
    Cut { bytes }.parse_core_module(&mut module, Parser::new(0), &core)?;
    Ok(module.finish())
}

/// How many bytes the module begins with, where its allocator can count in them.
fn wanted(core: &[u8]) -> Result<Option<u64>> {
    let (mut asked, mut globals, mut heap_base) = (false, Vec::new(), None);
    for payload in Parser::new(0).parse_all(core) {
        match payload? {
            Payload::CustomSection(section) => asked |= section.name() == IN_BYTES,
            Payload::GlobalSection(section) => {
                for global in section {
                    globals.push(global?.init_expr.get_operators_reader().read()?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.name == HEAP_BASE && export.kind == ExternalKind::Global {
                        heap_base = Some(export.index);
                    }
                }
            }
            _ => {}
        }
    }
    if !asked {
        return Ok(None);
    }
    let heap_base = heap_base.with_context(|| format!("it exports no global {HEAP_BASE}"))?;
    // All globals are the module's own: nothing that imports one becomes a component.
    match globals.get(usize::try_from(heap_base)?) {
        Some(&Operator::I32Const { value }) => Ok(Some(value.cast_unsigned().into())),
        _ => bail!("its {HEAP_BASE} is no constant of 32 bits"),
    }
}

/// Copies a module, and gives its memory so many pages of one byte.
struct Cut {
    bytes: u64,
}

impl Reencode for Cut {
    type Error = std::convert::Infallible;

    fn memory_type(
        &mut self,
        mut memory: wasmparser::MemoryType,
    ) -> Result<MemoryType, reencode::Error<Self::Error>> {
        memory.initial = self.bytes;
        memory.page_size_log2 = Some(0);
        Ok(utils::memory_type(self, memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKS: &str = r#"(@custom "timesale-memory-in-bytes" "")"#;
    const ENDS_AT_23536: &str =
        r#"(global i32 (i32.const 7)) (global (export "__heap_base") i32 (i32.const 23536))"#;

    /// A module of one page with these fields.
    fn module(fields: &[&str]) -> Vec<u8> {
        wat::parse_str(format!(
            r#"(module (memory (export "memory") 1) {})"#,
            fields.concat()
        ))
        .unwrap()
    }

    /// The first size and the page's bytes of a module's memory.
    fn memory(module: &[u8]) -> (u64, u64) {
        let mut memories = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            if let Payload::MemorySection(section) = payload.unwrap() {
                memories.extend(section.into_iter().map(Result::unwrap));
            }
        }
        let [memory] = memories[..] else {
            panic!("{memories:?}");
        };
        (memory.initial, 1 << memory.page_size_log2.unwrap_or(16))
    }

    #[test]
    fn a_memory_ends_where_the_heap_begins_and_grows_by_the_byte() {
        let cut = cut(module(&[ASKS, ENDS_AT_23536])).unwrap();
        assert_eq!(memory(&cut), (23_536, 1));
    }

    #[test]
    fn a_module_whose_allocator_counts_in_pages_stays_as_it_is() {
        let module = module(&[ENDS_AT_23536]);
        assert_eq!(cut(module.clone()).unwrap(), module);
    }

    #[test]
    fn a_module_that_does_not_say_where_its_heap_begins_is_refused() {
        for (field, wrong) in [
            ("", "it exports no global __heap_base"),
            (
                r#"(global (export "__heap_base") i64 (i64.const 23536))"#,
                "its __heap_base is no constant of 32 bits",
            ),
        ] {
            let error = cut(module(&[ASKS, field])).unwrap_err();
            assert_eq!(error.to_string(), wrong);
        }
    }
}
