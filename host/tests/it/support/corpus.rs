//! The strategies of `plugins/faulty/src/corpus`: one component, and the name of another strategy in it for each.

use std::fs;

use super::{FAULTY, staged};

/// What stands before the name in the component.
const MARK: &[u8] = b"corpus-strategy:";
/// Bytes of the mark and the name together.
const CHOICE_BYTES: usize = 48;

/// The component of a strategy of the corpus.
pub fn component(name: &str) -> Vec<u8> {
    let mut bytes = fs::read(staged().join(format!("{FAULTY}.wasm"))).unwrap();
    let marks = bytes.windows(MARK.len()).enumerate();
    let marks: Vec<usize> = marks
        .filter_map(|(place, found)| (found == MARK).then_some(place))
        .collect();
    assert_eq!(marks.len(), 1, "the component has no one place for a name");
    let choice = format!("corpus-strategy:{name:32}");
    assert_eq!(choice.len(), CHOICE_BYTES, "{name:?} is too long");
    bytes[marks[0]..][..CHOICE_BYTES].copy_from_slice(choice.as_bytes());
    bytes
}
