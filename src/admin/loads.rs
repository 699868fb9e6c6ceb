//! The config as operators see it: when it was read, by whom, what came of it; and the way to have it read anew.
//!
//! Invariant: no value of the config is shown, but in reports, whose secrets are masked.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::{Value, json};

use super::api::Desktop;
use super::error::ApiError;
use super::view::At;
use crate::loads::{By, Load, Loads, Outcome};
use crate::net::stream::Peer;
use crate::wire::html::escape;

/// `GET /api/v1/config`
pub(super) async fn config(State(desktop): State<Desktop>) -> Json<Value> {
    let loads = desktop.parts.loads.all();
    let current = loads.first().is_none_or(Load::is_used);
    let restart = loads.iter().find_map(|load| match &load.outcome {
        Outcome::Used { restart, .. } => Some(restart.clone()),
        Outcome::Refused(_) => None,
    });
    Json(json!({
        "now": At(desktop.now()),
        "current": current,
        "restart": restart.unwrap_or_default(),
        "loads": loads.iter().map(load).collect::<Vec<_>>(),
    }))
}

/// `POST /api/v1/reload`
pub(super) async fn reload(
    State(desktop): State<Desktop>,
    Extension(operator): Extension<Peer>,
) -> Result<Response, ApiError> {
    tracing::info!(target: "audit", %operator, "reload asked for by an operator");
    let done = desktop.parts.loads.ask(By::Operator(operator.to_string())).await.ok_or(ApiError::NoReload)?;
    let status = if done.is_used() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Ok((status, Json(load(&done))).into_response())
}

fn load(load: &Load) -> Value {
    let (at, by) = (At(load.at), load.by.to_string());
    match &load.outcome {
        Outcome::Used { changes, restart, warnings } => {
            json!({"at": at, "by": by, "ok": true, "changes": changes, "restart": restart, "warnings": warnings})
        }
        Outcome::Refused(report) => {
            let message = "the config cannot be used, the one before it stays";
            json!({"at": at, "by": by, "ok": false, "error": "bad_config", "message": message, "report": report})
        }
    }
}

/// What the operators' page says of it: loudly, where the file is not what is in use.
pub(super) fn banner(loads: &Loads) -> String {
    let Some(Load { at, by, outcome }) = loads.last() else { return String::new() };
    let (at, by) = (At(at), escape(&by.to_string()));
    match outcome {
        Outcome::Refused(report) => format!(
            "<p class=bad>The config cannot be used since {at} ({by}); the one before it stays.</p><pre>{}</pre>",
            escape(&report)
        ),
        Outcome::Used { restart, .. } if !restart.is_empty() => format!(
            "<p>Config of {at} ({by}).</p><p class=bad>Used after a restart only: {}</p>",
            escape(&restart.join(", "))
        ),
        Outcome::Used { .. } => format!("<p>Config of {at} ({by}).</p>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn after(outcome: Outcome) -> String {
        let loads = Loads::default();
        loads.note(Load { at: Timestamp::from_secs(1_700_000_000), by: By::File, outcome });
        banner(&loads)
    }

    #[test]
    fn a_config_that_is_not_in_use_is_said_in_red() {
        assert_eq!(banner(&Loads::default()), "");
        let used = |restart| Outcome::Used { changes: Vec::new(), restart, warnings: Vec::new() };
        let quiet = after(used(Vec::new()));
        assert!(quiet.contains("2023-11-14") && quiet.contains("file") && !quiet.contains("bad"), "{quiet}");
        assert!(
            after(used(vec!["listen".to_owned()])).contains("class=bad>Used after a restart only: listen")
        );
        let refused = after(Outcome::Refused("error: <b>".to_owned()));
        assert!(refused.contains("class=bad") && refused.contains("error: &lt;b&gt;"), "{refused}");
    }
}
