//! Input that nobody in his right mind sends: nothing panics, nothing takes for ever, and what is taken is taken as
//! something that can be stored, read and shown again.
//!
//! Each [`Target`] is a property of any bytes. `tests/properties.rs` tries each with a few hundred random inputs in every
//! run of the tests; `tests/fuzz/run TARGET` lets libFuzzer look for those that reach code no other has reached.

mod choices;
mod expressions;
mod objects;
mod patches;
mod texts;

use std::fmt::Debug;

use choices::Choices;
pub use expressions::evaluate;

/// Whether a property holds for an input: why not.
pub type Outcome = Result<(), String>;

/// A property that must hold for any bytes.
pub struct Target {
    /// What `tests/fuzz/run` calls it.
    pub name: &'static str,
    property: fn(Choices<'_>) -> Outcome,
}

impl Target {
    /// # Errors
    /// What does not hold, for a human.
    pub fn run(&self, input: &[u8]) -> Outcome {
        (self.property)(Choices::new(input))
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "decode", property: objects::bytes_are_an_object_or_an_error },
    Target { name: "decode-again", property: objects::what_was_taken_is_taken_again },
    Target { name: "lifetime", property: objects::creating_updating_and_showing_it_ends },
    Target { name: "protobuf", property: objects::protobuf_is_an_object_or_an_error },
    Target { name: "protobuf-again", property: objects::an_object_comes_back_from_protobuf },
    Target { name: "protobuf-damage", property: objects::damaged_protobuf_is_an_object_or_an_error },
    Target { name: "json-patch", property: patches::a_json_patch_is_applied_or_refused },
    Target { name: "merge-patch", property: patches::a_merge_patch_twice_is_as_once },
    Target { name: "strategic-patch", property: patches::a_strategic_patch_is_merged_or_refused },
    Target { name: "apply", property: patches::what_one_applies_twice_changes_nothing },
    Target { name: "label-selector", property: texts::a_label_selector_reads_as_it_is_written },
    Target { name: "field-selector", property: texts::a_field_selector_reads_as_it_is_written },
    Target { name: "quantity", property: texts::a_quantity_reads_as_it_is_written },
    Target { name: "texts", property: texts::times_and_patterns_are_read_or_refused },
    Target { name: "cel", property: expressions::any_text_is_a_value_or_an_error },
];

fn same<T: PartialEq + Debug>(what: &str, one: &T, other: &T) -> Outcome {
    if one == other { Ok(()) } else { Err(format!("{what}: {one:?} is not {other:?}")) }
}
