//! Every target with a few hundred random inputs; `PROPTEST_CASES=1000000` has it try as many for as long as wanted.

use k3s_api::decode::{FieldValidation, decode_object};
use k3s_api::resource;
use k3s_fuzz::{TARGETS, evaluate};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// One test for each target.
macro_rules! properties {
    ($($test:ident: $target:literal,)*) => {
        $(#[test]
        fn $test() {
            let target = TARGETS.iter().find(|target| target.name == $target).expect("a target");
            // Its own source file's name is where proptest would keep failures; libFuzzer's corpus is the place for inputs.
            let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
            let tried = TestRunner::new(config).run(&vec(any::<u8>(), 0..400), |input| target.run(&input).map_err(TestCaseError::fail));
            tried.unwrap_or_else(|error| panic!("{error}"));
        })*

        #[test]
        fn all_targets_are_tried() {
            let tried = [$($target),*];
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, tried);
        }
    };
}

properties! {
    bytes_are_an_object_or_an_error: "decode",
    what_was_taken_is_taken_again: "decode-again",
    creating_updating_and_showing_it_ends: "lifetime",
    protobuf_is_an_object_or_an_error: "protobuf",
    an_object_comes_back_from_protobuf: "protobuf-again",
    damaged_protobuf_is_an_object_or_an_error: "protobuf-damage",
    a_json_patch_is_applied_or_refused: "json-patch",
    a_merge_patch_twice_is_as_once: "merge-patch",
    a_strategic_patch_is_merged_or_refused: "strategic-patch",
    what_one_applies_twice_changes_nothing: "apply",
    a_label_selector_reads_as_it_is_written: "label-selector",
    a_field_selector_reads_as_it_is_written: "field-selector",
    a_quantity_reads_as_it_is_written: "quantity",
    times_and_patterns_are_read_or_refused: "texts",
    any_words_are_a_value_or_an_error: "cel",
}

proptest! {
    #[test]
    fn depth_is_bounded(depth in 100_usize..200_000, open in prop::sample::select(&["[", "{\"a\":", "{\"spec\":"][..])) {
        let resource = resource::find("", "v1", "configmaps").expect("a resource");
        prop_assert!(decode_object(open.repeat(depth).as_bytes(), resource, FieldValidation::Warn).is_err());
    }
}

/// What can be nested, and what closes it.
const NESTED: &[(&str, &str)] = &[
    ("(", ")"),
    ("[", "]"),
    ("!", ""),
    ("-", ""),
    ("{1:", "}"),
    ("object.list.all(y, ", ")"),
    ("1+(", ")"),
    ("true?1:", ""),
    ("1 in ", ""),
    ("object.a", ".a"),
    ("dyn(", ")"),
];

#[test]
fn nesting_is_bounded_on_a_small_stack() {
    for (open, close) in NESTED {
        for depth in [10, 60, 100, 200, 249, 251, 1_000, 3_900] {
            let sources = [
                open.repeat(depth),
                format!("{}1{}", open.repeat(depth), close.repeat(depth)),
                format!("{}true{}", open.repeat(depth), close.repeat(depth)),
            ];
            // As small as the server's threads have it.
            let thread = std::thread::Builder::new().stack_size(1 << 20);
            let thread =
                thread.spawn(move || sources.iter().try_for_each(|source| evaluate(source))).expect("a thread");
            thread.join().expect("a thread that ends").unwrap_or_else(|error| panic!("{open} {depth}: {error}"));
        }
    }
}

#[test]
fn loops_in_loops_meet_the_cost_limit() {
    for depth in 1..6 {
        let source = format!("{}true{}", "lists.range(10000).all(y, ".repeat(depth), ")".repeat(depth));
        evaluate(&source).unwrap_or_else(|error| panic!("{error}"));
    }
}
