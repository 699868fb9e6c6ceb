//! Configs: whatever the text, there is a config or a report, and reports can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionbridge::config;

fuzz_target!(|text: &str| {
    match config::load_str("fuzz.toml", text, &mut sessionbridge::names::Names::default()) {
        Ok((config, _)) => {
            let _ = config::explain(&config, "http://apps.example.org/AppA/x?CFID=1");
        }
        Err(report) => {
            let _ = report.to_string();
        }
    }
});
