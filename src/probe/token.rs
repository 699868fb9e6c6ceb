//! Whether the token that an app gives is its engine's: judged by names and shapes, told by names alone.

use super::visitor::{Given, Visitor};
use crate::bridge::rules::{Engine, SessionRules, Shape, TokenRule};
use crate::bridge::vault::Role;
use crate::findings::Level;

/// What the tokens of one engine look like.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Which.
    pub engine: Engine,
    /// Its word in the config.
    pub name: &'static str,
    /// Its tokens, the deciding one first.
    pub tokens: Vec<TokenRule>,
}

impl Preset {
    /// The part of a token that the cookie `name` is here.
    pub(super) fn part(&self, name: &[u8]) -> Option<Part<'_>> {
        let parts = self.tokens.iter().zip(0u8..).flat_map(|(token, at)| {
            token.parts.iter().zip(0u8..).map(move |(rule, part)| (Role::Token { token: at, part }, rule))
        });
        let mut named = parts.filter_map(|(role, rule)| {
            let own = rule.cookie.as_ref().filter(|own| own.as_bytes().eq_ignore_ascii_case(name))?;
            Some(Part { role, shape: &rule.shape, exact: own.as_bytes() == name })
        });
        named.next()
    }

    /// True where `cookies` hold all parts of its deciding token, each well shaped.
    fn is_seen(&self, at: usize, cookies: &[Given]) -> bool {
        let Some(deciding) = self.tokens.first() else { return false };
        (0u8..).zip(&deciding.parts).all(|(part, _)| {
            let role = Role::Token { token: 0, part };
            cookies.iter().any(|given| given.fits.contains(&(at, role)))
        })
    }
}

/// A part of a token, found by the name of its cookie.
pub(super) struct Part<'a> {
    pub(super) role: Role,
    pub(super) shape: &'a Shape,
    /// The name is spelt just as the engine spells it.
    pub(super) exact: bool,
}

/// What is to be said of the token of `visitor`, who has opened a session of an app with these `rules`.
pub(super) fn judge(rules: &SessionRules, visitor: &Visitor<'_>, presets: &[Preset]) -> (Level, String) {
    let own = presets.iter().find(|preset| preset.engine == rules.engine).map_or("custom", |own| own.name);
    let shaped = visitor.session().vault().iter().all(|cookie| {
        let parts = rules.parts().find(|part| part.role == cookie.role);
        parts.is_none_or(|part| part.rule.shape.fits(cookie.value))
    });
    let state = State { holds: visitor.has_token(), shaped, names: held(rules, visitor) };
    verdict(rules, (own, presets), &state, &visitor.cookies)
}

/// What the session holds.
struct State {
    holds: bool,
    /// All parts are of the engine's shape.
    shaped: bool,
    /// The names of the deciding token's parts.
    names: Vec<String>,
}

fn held(rules: &SessionRules, visitor: &Visitor<'_>) -> Vec<String> {
    let deciding = visitor.session().deciding();
    let parts = rules.parts().filter(|part| {
        matches!(part.role, Role::Token { token, part: at }
            if Some(token) == deciding && visitor.session().vault().part(token, at).is_some())
    });
    parts.map(|part| part.rule.name.to_string()).collect()
}

fn verdict(
    rules: &SessionRules,
    (own, presets): (&str, &[Preset]),
    state: &State,
    cookies: &[Given],
) -> (Level, String) {
    let others: Vec<&str> = presets
        .iter()
        .enumerate()
        .filter(|(at, preset)| preset.engine != rules.engine && preset.is_seen(*at, cookies))
        .map(|(_, preset)| preset.name)
        .collect();
    let all: Vec<&str> = cookies.iter().map(|given| given.name.as_str()).collect();
    let set =
        if all.is_empty() { "it sets no cookies".to_owned() } else { format!("it sets {}", all.join(", ")) };
    if !state.holds {
        return missing((own, &set), &others, &unknown(rules, cookies));
    }
    if !state.shaped {
        let rather = if others.is_empty() {
            String::new()
        } else {
            format!(": it has that of {}; set `session.engine` so", others.join(" or "))
        };
        let says = format!("{set}, but its token has not the shape of engine {own}{rather}");
        return (Level::Warning, says);
    }
    let token = state.names.join(" and ");
    let kind = cookies.iter().any(|given| given.name.eq_ignore_ascii_case("JSESSIONID"));
    if kind && rules.engine.wants_a_cookie() && rules.cookie(b"JSESSIONID").is_none() {
        let says = format!(
            "{set}: JSESSIONID comes beside {token}; if its sessions are J2EE ones, say `session.type = \"auto\"`"
        );
        return (Level::Warning, says);
    }
    let pair = cookies.iter().any(|given| given.name.eq_ignore_ascii_case("CFID"));
    if kind && !pair && matches!(rules.engine, Engine::ColdFusion | Engine::Lucee) {
        let says = format!("{set} and no CFID: if it is no {own}, say `session.engine = \"servlet\"`");
        return (Level::Note, says);
    }
    let strangers = unknown(rules, cookies);
    if !strangers.is_empty() {
        let says = format!(
            "{set}; its token is {token}. If it keeps a session by {} too, name it in `session.tokens` of engine \
             custom",
            strangers.join(", ")
        );
        return (Level::Note, says);
    }
    (Level::Good, format!("{set}; its session hangs on {token}, as engine {own} does it"))
}

/// No token came.
fn missing((own, set): (&str, &str), others: &[&str], strangers: &[&str]) -> (Level, String) {
    if !others.is_empty() {
        let says = format!(
            "{set}: that is the token of {}, not of {own}; set `session.engine` so",
            others.join(" or ")
        );
        return (Level::Warning, says);
    }
    if !strangers.is_empty() {
        let says = format!(
            "{set} and no token of engine {own}: if {} is its session, say so with engine custom and \
             `session.tokens`",
            strangers.join(", ")
        );
        return (Level::Warning, says);
    }
    let says = format!(
        "{set}: an anonymous visitor gets no token of engine {own}; if people get one at their sign-in, all is well"
    );
    (Level::Note, says)
}

/// Cookies that are no token of the app's and look like a session all the same.
fn unknown<'c>(rules: &SessionRules, cookies: &'c [Given]) -> Vec<&'c str> {
    let looks = |given: &&Given| {
        let name = given.name.to_ascii_lowercase();
        let says = ["sess", "sid", "token", "auth"].iter().any(|word| name.contains(word));
        let csrf = name.contains("csrf") || name.contains("xsrf");
        let managed =
            rules.cookie(given.name.as_bytes()).is_some() || rules.exception(given.name.as_bytes()).is_some();
        // Whatever stands in the vault goes along anyway; what is shorter than 16 bytes is no id.
        !managed && !csrf && given.length >= 16 && given.for_session && (given.http_only || says)
    };
    cookies.iter().filter(looks).map(|given| given.name.as_str()).collect()
}

#[cfg(test)]
mod tests;
