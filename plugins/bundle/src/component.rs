//! From a core Wasm module to a component in a folder.
//!
//! Not for judging the component: what a strategy may import and must export is the host's to check when it loads it.
//! Called by `main`, after each compilation.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use wit_component::{ComponentEncoder, DecodedWasm};

use crate::memory;

/// A component that was made.
pub struct Made {
    path: PathBuf,
    bytes: usize,
    imports: Vec<String>,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, kib) = (self.path.display(), self.bytes.div_ceil(1024));
        write!(f, "{path}: {kib} KiB, imports {}", self.imports.join(", "))
    }
}

/// Makes a component of the module and puts it into the folder as `VERSION.wasm`.
///
/// The file appears whole or not at all: it is written aside under a name that is no component's, then renamed.
pub fn make(module: &Path, folder: &Path, version: &str) -> Result<Made> {
    let core = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&memory::cut(core)?)?
        .encode()?;
    let imports = imports(&component)?;

    let path = folder.join(format!("{version}.wasm"));
    let aside = folder.join(format!(".{version}.partial"));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&aside, &component))
        .and_then(|()| fs::rename(&aside, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Made {
        path,
        bytes: component.len(),
        imports,
    })
}

/// The names of the interfaces that a component imports.
///
/// A crate that forgot the macro compiles, and becomes a component that does nothing: told here, where the author looks.
fn imports(component: &[u8]) -> Result<Vec<String>> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("the encoder made something else than a component");
    };
    let world = resolve
        .worlds
        .get(world)
        .context("the component has no world")?;
    ensure!(
        !world.exports.is_empty(),
        "it exports nothing; is `timesale_sdk::strategy!` missing?"
    );
    let names = world.imports.keys();
    Ok(names.map(|key| resolve.name_world_key(key)).collect())
}
