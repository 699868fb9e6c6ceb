//! `[apps.NAME.health]`: how it is found out whether an app's servers are well.
//!
//! What is asked for lies inside the app.

use std::time::Duration;

use super::beat;
use super::report::Finding;
use super::server::set;
use super::table::Table;
use super::units;
use crate::bridge::mount::Mount;
use crate::route::HealthRules;

/// More often than this is an attack.
const SOONEST: Duration = Duration::from_secs(1);

/// Reads the table of the app that `app` is, mounted at `mount`; `None` where it is not there.
pub(super) fn read(app: &Table<'_>, mount: &Mount) -> Option<HealthRules> {
    let table = app.table("health", &format!("health of {}", app.place))?;
    let path = table.text("path").and_then(|text| beat::inside(&text, &text.text, "path", mount, &table));
    if !table.has("path") {
        let first = table.entries().first().map_or(&table.span, |(key, _)| &key.span);
        let finding =
            Finding::at(first, format!("health of {} has no `path`", app.place), "what is asked for?");
        table.findings.error(
            finding.help("`health.path = \"/app/health\"`: a page that is 2xx or 3xx while all is well"),
        );
    }
    let (mut every, mut fall, mut rise) = (Duration::from_secs(10), 3, 2);
    set(
        &mut every,
        table.unit("every", "a duration", |text| match units::duration(text)? {
            span if span < SOONEST => Err("it must be at least a second".to_owned()),
            span => Ok(span),
        }),
    );
    let count = |key| table.whole(key, 1).and_then(|number| u32::try_from(number).ok());
    set(&mut fall, count("fall"));
    set(&mut rise, count("rise"));
    table.finish();
    Some(HealthRules { path: path?, every, fall, rise })
}
