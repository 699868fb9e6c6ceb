//! Cookie fields as clients send them: every pair is a part of the line, and a name folds to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionbridge::wire::cookie;

fuzz_target!(|line: &[u8]| {
    for pair in cookie::pairs(line) {
        let _ = cookie::folds_to(pair.name, b"CFID");
        let _ = (
            cookie::is_legacy_attribute(pair.name),
            cookie::valid_name(pair.name),
            cookie::valid_value(pair.value),
        );
        if cookie::valid_name(pair.name) {
            assert!(cookie::folds_to(pair.name, pair.name), "{:?}", pair.name);
        }
    }
});
