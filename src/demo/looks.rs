//! The pages of the two old applications: a time sheet and a catalogue.
//!
//! Invariant: whatever a person typed is escaped; no id is on a page.

use super::fill::{escape, fill};
use super::sim::Look;

const SHELL: &str = include_str!("assets/shell.html");
const TIME_SHEET: &str = include_str!("assets/time-sheet.html");
const CATALOGUE: &str = include_str!("assets/catalogue.html");
const CARD: &str = include_str!("assets/card.html");
const SIGNED_OUT: &str = include_str!("assets/signed-out.html");

/// What AppA calls itself.
pub(super) const TITLE_A: &str = "Time sheet";
/// What AppB calls itself.
pub(super) const TITLE_B: &str = "Catalogue";

/// Key in the session, and what the page calls it.
const DAYS: [(&str, &str); 5] =
    [("mon", "Monday"), ("tue", "Tuesday"), ("wed", "Wednesday"), ("thu", "Thursday"), ("fri", "Friday")];

/// Key in the session, name, price, and the drawing (24 by 24, strokes).
const WARES: [(&str, &str, &str, &str); 6] = [
    ("lamp", "Desk lamp", "34.90", "M6 21h9M10.5 21v-6L7 9.5l5-4M12 5.5l4-2.5 4 6-5.5 2.5z"),
    ("binder", "Ring binder", "4.20", "M5 3h14v18H5zM9 3v18M12.5 7h4M12.5 10h4M14.5 17a1.5 1.5 0 1 0 0-.1z"),
    (
        "mug",
        "Mug",
        "7.50",
        "M5 8h11v9a4 4 0 0 1-4 4H9a4 4 0 0 1-4-4zM16 10h2a2.5 2.5 0 0 1 0 6h-2M8.5 5V3M12.5 5V3",
    ),
    (
        "scissors",
        "Scissors",
        "6.80",
        "M8.2 15.6 18 3M15.8 15.6 6 3M6.5 21a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM17.5 21a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
    ),
    ("clock", "Wall clock", "18.00", "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.5 2"),
    ("box", "Archive box", "2.95", "M4 8v12h16V8M2.5 4h19v4h-19zM9.5 12h5"),
];

/// A page of AppA.
pub(super) fn time_sheet(look: &Look<'_>) -> String {
    let saved = |key: &str| look.session.as_ref().and_then(|session| session.data.get(key));
    let rows: String = DAYS
        .iter()
        .map(|(key, day)| {
            let hours = escape(saved(key).map_or("7.5", String::as_str));
            format!(
                "<tr><th scope=\"row\"><label for=\"{key}\">{day}</label></th><td>\
                 <input id=\"{key}\" name=\"{key}\" inputmode=\"decimal\" maxlength=\"5\" value=\"{hours}\"></td></tr>"
            )
        })
        .collect();
    let kept: Vec<f64> = DAYS.iter().filter_map(|(key, _)| saved(key)?.trim().parse().ok()).collect();
    let note = if kept.is_empty() {
        "<p class=\"note unsaved\">Not saved yet in this session.</p>".to_owned()
    } else {
        let sum = kept.iter().sum::<f64>();
        format!(
            "<p class=\"note saved\"><strong>{} h</strong> saved in this session.</p>",
            (sum * 100.0).round() / 100.0
        )
    };
    let body = fill(TIME_SHEET, &[("rows", &rows), ("note", &note)]);
    page(look, "A", (TITLE_A, "Personnel department, intranet"), ("/AppB/index.cfm", TITLE_B), &body)
}

/// A page of AppB.
pub(super) fn catalogue(look: &Look<'_>) -> String {
    let held = |key: &str| look.session.as_ref().is_some_and(|session| session.data.contains_key(key));
    let cards: String = WARES
        .iter()
        .map(|(key, name, price, drawing)| {
            let label = if held(key) { "In the basket" } else { "Add to basket" };
            let class = if held(key) { "held" } else { "" };
            fill(
                CARD,
                &[
                    ("key", key),
                    ("name", name),
                    ("price", price),
                    ("drawing", drawing),
                    ("label", label),
                    ("class", class),
                ],
            )
        })
        .collect();
    let count = WARES.iter().filter(|(key, ..)| held(key)).count();
    let basket = match count {
        0 => "Your basket is empty".to_owned(),
        1 => "1 article in your basket".to_owned(),
        many => format!("{many} articles in your basket"),
    };
    let body = fill(CATALOGUE, &[("cards", &cards), ("basket", &basket)]);
    page(look, "B", (TITLE_B, "Office supplies, ordering system"), ("/AppA/index.cfm", TITLE_A), &body)
}

/// What both share: the frame of the demo, and the old application within it.
fn page(look: &Look<'_>, app: &str, (title, owner): (&str, &str), other: (&str, &str), body: &str) -> String {
    let session = look.session.as_ref();
    let mount = escape(look.mount);
    let signed_out;
    let body = if look.page == "login" {
        signed_out = fill(SIGNED_OUT, &[("mount", &mount)]);
        &signed_out
    } else {
        body
    };
    let label = session.map_or_else(String::new, |session| escape(&session.label));
    let started = session.map_or(look.now, |session| session.started).to_string();
    let hits = session.map_or(0, |session| session.hits).to_string();
    let fresh = if look.fresh { "true" } else { "false" };
    fill(
        SHELL,
        &[
            ("app", app),
            ("name", &escape(look.name)),
            ("title", title),
            ("owner", owner),
            ("mount", &mount),
            ("page", &escape(look.page)),
            ("other_url", other.0),
            ("other", other.1),
            ("session", &label),
            ("started", &started),
            ("clock", &clock(session.map_or(look.now, |session| session.started))),
            ("now", &look.now.to_string()),
            ("hits", &hits),
            ("fresh", fresh),
            ("body", body),
        ],
    )
}

/// Hours, minutes and seconds in UTC, for who runs no script; the script writes them in the person's own zone.
fn clock(millis: u64) -> String {
    let seconds = millis / 1000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::sim::SessionView;
    use super::*;

    fn look(data: &[(&str, &str)]) -> Look<'static> {
        let data: BTreeMap<String, String> =
            data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let session =
            SessionView { label: "s7".into(), started: 3_723_000, expires: 0, hits: 2, user: None, data };
        Look { name: "AppA", mount: "/AppA/", page: "index", now: 0, session: Some(session), fresh: false }
    }

    #[test]
    fn hours_are_summed_and_escaped() {
        let page = time_sheet(&look(&[("mon", "8"), ("tue", "7.5"), ("wed", "\"><script>")]));
        assert!(page.contains("<strong>15.5 h</strong> saved"), "{page}");
        assert!(!page.contains("\"><script>") && page.contains("&quot;&gt;&lt;script&gt;"));
        assert!(page.contains("01:02:03 UTC") && page.contains("data-session=\"s7\""));
        assert!(time_sheet(&look(&[])).contains("Not saved yet"));
    }

    #[test]
    fn the_basket_counts_wares_only() {
        assert!(catalogue(&look(&[])).contains("Your basket is empty"));
        assert!(catalogue(&look(&[("mug", "1"), ("other", "1")])).contains("1 article in"));
        assert!(catalogue(&look(&[("mug", "1"), ("box", "1")])).contains("2 articles in"));
    }

    #[test]
    fn every_place_of_the_shell_is_filled() {
        for page in [time_sheet(&look(&[])), catalogue(&look(&[]))] {
            assert!(!page.contains("{{") && !page.contains("}}"));
        }
    }

    #[test]
    fn who_signed_out_is_told_so() {
        let page = time_sheet(&Look { page: "login", session: None, ..look(&[]) });
        assert!(page.contains("signed out") && !page.contains("<table"));
    }
}
