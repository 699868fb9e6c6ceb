//! URLs with tokens in them: cleaning finds nothing more in what it has cleaned, and never cuts what it was not asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionbridge::wire::{path, query};

fuzz_target!(|url: &str| {
    let (route, rest) = url.split_once('?').unwrap_or((url, ""));
    let managed = |name: &str| query::key_is(name, "CFID") || query::key_is(name, "jsessionid");
    if let Some(cut) = query::cut(rest, managed) {
        assert!(cut.len() < rest.len() && query::cut(&cut, managed).is_none(), "{rest:?} to {cut:?}");
    }
    if let Some(cut) = path::cut_params(route, managed) {
        assert!(cut.len() < route.len() && path::cut_params(&cut, managed).is_none(), "{route:?} to {cut:?}");
    }
    if let Some(segment) = path::session_segment(route, 1) {
        let cut = path::cut_segment(route, &segment);
        assert!(cut.len() < route.len(), "{route:?} to {cut:?}");
    }
    if let Ok(normal) = path::normal(route) {
        assert!(
            normal.starts_with('/') && !normal.contains("//") && !normal.split('/').any(|part| part == "..")
        );
    }
});
