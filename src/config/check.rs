//! Checks that need more than one app: overlapping routes, URL tokens of other apps, and what is worth a
//! thought.
//!
//! Here the drafts become the route map; a draft whose own reading failed is not blamed twice.

use super::address;
use super::app::Draft;
use super::options::ListenText;
use super::report::Finding;
use super::table::{Text, closest, words};
use super::tree::{Findings, Key};
use super::units;
use crate::bridge::rules::{Adopt, BridgeRules, Mode, Recipe, SameSite, UrlToken};
use crate::setting::options::{Options, PublicScheme};
use crate::wire::path;

/// Reports apps that stand in each other's place, or in the proxy's own.
pub(super) fn overlaps(drafts: &[Draft], bridge: &BridgeRules, findings: &Findings) {
    for (at, draft) in drafts.iter().enumerate() {
        let place = draft.path.as_ref().unwrap_or(&draft.span);
        let (name, prefix) = (&draft.route.rules.name, draft.route.rules.mount.prefix());
        if draft.path.is_some()
            && format!("{}/", bridge.prefix).len() <= prefix.len()
            && prefix.starts_with(&*bridge.prefix)
            && prefix.as_bytes().get(bridge.prefix.len()) == Some(&b'/')
        {
            let title = format!("app `{name}` stands where the proxy's own pages are");
            let label = format!("`bridge.prefix` is `{}`", bridge.prefix);
            findings.error(Finding::at(place, title, label));
        }
        for other in drafts.iter().take(at).filter(|other| overlap(draft, other)) {
            let title =
                format!("the apps `{}` and `{name}` have the same hosts and path", other.route.rules.name);
            let finding = Finding::at(place, title, "here again");
            findings.error(finding.also(other.path.as_ref().unwrap_or(&other.span), "first here"));
        }
    }
}

/// True where some request could belong to both at once.
fn overlap(one: &Draft, two: &Draft) -> bool {
    // A path that could not be read stands for `/` meanwhile, which would blame the app that is really there.
    if one.has_bad_path || two.has_bad_path {
        return false;
    }
    let (first, second) = (&one.route.rules.mount, &two.route.rules.mount);
    let folded = first.is_case_insensitive() || second.is_case_insensitive();
    let same_path = if folded {
        first.prefix().eq_ignore_ascii_case(second.prefix())
    } else {
        first.prefix() == second.prefix()
    };
    same_path && share_host(one, two)
}

/// True where both are for any host, or one host is named by both.
fn share_host(one: &Draft, two: &Draft) -> bool {
    let (first, second) = (&one.route.hosts, &two.route.hosts);
    (first.is_empty() && second.is_empty()) || first.iter().any(|host| second.contains(host))
}

/// Finds the token parts that URL tokens name, and puts them into the drafts' rules.
pub(super) fn url_tokens(drafts: &mut [Draft], findings: &Findings) {
    let resolved: Vec<Vec<UrlToken>> = drafts
        .iter()
        .map(|draft| {
            let list = draft.session.iter().flat_map(|session| &session.url_tokens);
            list.filter_map(|(key, text)| resolve(drafts, draft, key, text, findings)).collect()
        })
        .collect();
    for (draft, list) in drafts.iter_mut().zip(resolved) {
        if let Some(session) = &mut draft.route.rules.session {
            session.url_tokens = list;
        }
    }
}

fn resolve(drafts: &[Draft], own: &Draft, key: &Key, text: &Text, findings: &Findings) -> Option<UrlToken> {
    let (target, part) = match text.text.split_once('.') {
        // A part's own name may have a dot: `ASP.NET_SessionId`.
        Some((app, part)) if part_of(own, &text.text).is_none() => {
            let Some(target) = drafts.iter().find(|draft| &*draft.route.rules.name == app) else {
                let names = || drafts.iter().map(|draft| &*draft.route.rules.name);
                let label = match closest(app, names()).filter(|_| text.is_literal()) {
                    Some(name) => format!("did you mean `{name}.{part}`?"),
                    None => format!("the apps are {}", words(names())),
                };
                let what = if text.is_literal() { format!("`{app}`") } else { "this".to_owned() };
                findings.error(Finding::at(
                    &text.span,
                    format!("`{}` names an app that is not here: {what}", key.name),
                    label,
                ));
                return None;
            };
            (target, part)
        }
        _ => (own, text.text.as_str()),
    };
    let name = &target.route.rules.name;
    if target.session.is_none() {
        if target.engine.is_none() {
            let title = format!("`{}` names a token of app `{name}`, which has no session", key.name);
            let finding = Finding::at(&text.span, title, "without an engine there are no tokens");
            findings.error(finding.also(&target.span, "give it a `session.engine`"));
        }
        return None;
    }
    let Some((token, index)) = part_of(target, part) else {
        let names: Vec<&str> = parts(target).map(|(_, _, name)| name).collect();
        let near = closest(part, names.iter().copied()).filter(|_| text.is_literal());
        let label = match near {
            Some(near) if std::ptr::eq(target, own) => format!("did you mean `{near}`?"),
            Some(near) => format!("did you mean `{name}.{near}`?"),
            None => format!("its parts are {}", words(names.iter().copied())),
        };
        // An app whose tokens could not be read has been blamed for that.
        if !names.is_empty() {
            let title = format!("`{}` names a token part that app `{name}` does not have", key.name);
            findings.error(Finding::at(&text.span, title, label));
        }
        return None;
    };
    Some(UrlToken { param: key.name.as_str().into(), app: target.route.rules.app, token, part: index })
}

/// The parts of the app's tokens: token, part, name.
fn parts(draft: &Draft) -> impl Iterator<Item = (usize, usize, &str)> {
    let tokens = draft.session.iter().flat_map(|session| session.rules.tokens.iter().enumerate());
    tokens.flat_map(|(token, rule)| {
        rule.parts.iter().enumerate().map(move |(part, own)| (token, part, &*own.name))
    })
}

fn part_of(draft: &Draft, name: &str) -> Option<(usize, usize)> {
    parts(draft).find(|(_, _, own)| own.eq_ignore_ascii_case(name)).map(|(token, part, _)| (token, part))
}

/// Warns of heartbeats that are missing, too late or for nothing, and reports those that another app would
/// get.
pub(super) fn heartbeats(drafts: &[Draft], findings: &Findings) {
    for draft in drafts {
        let name = &draft.route.rules.name;
        match (&draft.session, &draft.route.rules.beat) {
            (Some(_), None) if !draft.has_beat => {
                let label = "it is not kept alive: its sessions time out behind the person's back";
                let finding =
                    Finding::at(&draft.span, format!("app `{name}` has no `heartbeat.path`"), label);
                let mount = draft.route.rules.mount.prefix();
                findings.warn(finding.help(format!(
                    "name a cheap page that touches the session: `heartbeat.path = \"{mount}ping\"`"
                )));
            }
            (None, Some(_)) if draft.engine.is_none() => {
                let place = draft.beat_path.as_ref().unwrap_or(&draft.span);
                let label = "there is nothing to keep alive";
                findings.warn(Finding::at(
                    place,
                    format!("app `{name}` has a heartbeat and no `session.engine`"),
                    label,
                ));
            }
            (Some(session), Some(beat)) => {
                let timeout = session.rules.timeout;
                if let Some(every) = beat.every.filter(|every| *every >= timeout) {
                    let title = format!("the heartbeats of app `{name}` come too late");
                    let label = format!(
                        "every {}, but its sessions live for {}",
                        units::shown(every),
                        units::shown(timeout)
                    );
                    let place = draft.beat_every.as_ref().unwrap_or(&draft.span);
                    findings.warn(Finding::at(place, title, label));
                }
            }
            _ => {}
        }
        stolen(drafts, draft, findings);
    }
}

/// Warns of apps on one host whose browsers can hold only one of their tokens: without the proxy, and as soon as they are
/// handed back.
pub(super) fn released(drafts: &[Draft], bridge: &BridgeRules, findings: &Findings) {
    if bridge.mode != Mode::Release {
        return;
    }
    for (at, draft) in drafts.iter().enumerate() {
        let route = &draft.route;
        if route.rules.session.is_some() && route.upstreams.len() > 1 {
            let title = format!("`{}` has several servers", route.rules.name);
            let label = "a session that was handed back is tied to none of them: they must share their sessions, or a balancer by \
                         cookie must stand before them";
            findings.warn(Finding::at(draft.path.as_ref().unwrap_or(&draft.span), title, label));
        }
        for other in drafts.iter().take(at) {
            let meets =
                share_host(draft, other) || draft.route.hosts.is_empty() || other.route.hosts.is_empty();
            let strips = draft.route.rules.mount.strips() || other.route.rules.mount.strips();
            let both = draft.route.rules.session.as_ref().zip(other.route.rules.session.as_ref());
            let names: Vec<&str> =
                both.filter(|_| meets && !strips).map_or_else(Vec::new, |(own, others)| {
                    if own.shares.iter().any(|share| share.with == other.route.rules.app) {
                        return Vec::new();
                    }
                    let cookies = own.parts().filter_map(|part| part.rule.cookie.as_deref());
                    cookies.filter(|name| others.cookie(name.as_bytes()).is_some()).collect()
                });
            if names.is_empty() {
                continue;
            }
            let (one, two) = (&other.route.rules.name, &draft.route.rules.name);
            let names = words(names.into_iter());
            let title = format!("`{one}` and `{two}` both keep their session in {names}");
            let label =
                "where both set it for the same path, the one that is used last signs the other out again";
            findings.warn(Finding::at(draft.path.as_ref().unwrap_or(&draft.span), title, label));
        }
    }
}

/// Reports what is asked for in an app's name and belongs to an app mounted deeper, which would get its tokens.
fn stolen(drafts: &[Draft], draft: &Draft, findings: &Findings) {
    let rules = &draft.route.rules;
    let beat = rules.beat.as_ref().map(|beat| &*beat.path);
    let sign_out = rules.sign_out.recipe.as_ref().map(|recipe| match recipe {
        Recipe::Request { target, .. } => &**target,
        Recipe::Form { page, .. } | Recipe::Link { page, .. } => &**page,
    });
    let asked = [("heartbeat", beat, &draft.beat_path), ("sign-out", sign_out, &draft.sign_out)];
    for (what, target, place) in asked {
        let (Some(target), Some(place)) = (target, place) else { continue };
        let Some(other) = deeper(drafts, draft, target) else { continue };
        let title = format!("the {what} of app `{}` goes to app `{}`", rules.name, other.route.rules.name);
        let finding = Finding::at(place, title, "a longer path wins");
        findings.error(finding.also(other.path.as_ref().unwrap_or(&other.span), "this one"));
    }
}

/// The app below `draft` that `target` belongs to.
fn deeper<'a>(drafts: &'a [Draft], draft: &Draft, target: &str) -> Option<&'a Draft> {
    let path = path::normal(target.split('?').next()?).ok()?;
    let own = draft.route.rules.mount.prefix().len();
    drafts.iter().find(|other| {
        let mount = &other.route.rules.mount;
        mount.prefix().len() > own
            && mount.contains(&path)
            && (other.route.hosts.is_empty() || share_host(draft, other))
    })
}

/// Where and how browsers connect, as far as warnings ask.
pub(super) struct Entrance<'a> {
    /// The addresses without TLS.
    pub(super) plain: &'a [&'a ListenText],
    pub(super) server: &'a Options,
    pub(super) bridge: &'a BridgeRules,
}

impl Entrance<'_> {
    /// True where browsers surely speak plain HTTP to another machine: they send no Fetch Metadata then, and
    /// drop `Secure`.
    fn is_plain(&self) -> bool {
        let remote = self.plain.iter().any(|own| !own.is_local());
        match self.server.public_scheme {
            PublicScheme::Http => true,
            PublicScheme::Https => false,
            PublicScheme::Auto => remote && self.server.trusted_proxies.is_empty(),
        }
    }
}

/// Warns of what plain HTTP, looser adoption and public upstreams mean.
pub(super) fn exposure(drafts: &[Draft], entrance: &Entrance<'_>, findings: &Findings) {
    for draft in drafts {
        let name = &draft.route.rules.name;
        if let Some(session) = &draft.session {
            let mapped = !session.url_tokens.is_empty();
            let place = session.adopt.as_ref().unwrap_or(&draft.span);
            match session.rules.adopt {
                Adopt::Proven if mapped && entrance.is_plain() => {
                    let title = format!("app `{name}` adopts no URL tokens over plain HTTP");
                    let label = "browsers send the proof, Fetch Metadata, over https only";
                    let help =
                        "serve it over https, or weigh `session.adopt = \"legacy\"`, which asks for no proof";
                    findings.warn(Finding::at(place, title, label).help(help));
                }
                Adopt::Legacy => {
                    let title = format!("app `{name}` adopts URL tokens without proof of a navigation");
                    let label = "whoever follows a fresh link from the same address first, has the session";
                    findings.warn(Finding::at(place, title, label));
                }
                _ => {}
            }
        }
        for (origin, span) in draft.upstreams.iter().filter(|(origin, _)| address::is_public(origin)) {
            let title = format!("`{origin}` is on the Internet");
            findings.warn(Finding::at(span, title, "tokens go there unencrypted"));
        }
    }
    if entrance.bridge.same_site == SameSite::None && entrance.is_plain() {
        findings.warn(Finding {
            title: "`bridge.same_site = \"None\"` over plain HTTP: browsers will not keep the cookie"
                .to_owned(),
            at: None,
            also: None,
            help: None,
        });
    }
}
