//! Tokens that arrive in a URL: what is done with each, and the clean URL that the browser is sent to.
//!
//! Invariant: a token in a URL is never proof of who someone is. The answer looks the same whether it was believed or not,
//! but for the bridge cookie.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Response;

use super::Proxy;
use super::error::Error;
use super::inbound::Inbound;
use super::join;
use super::note::{Note, TokenCame};
use super::visit::Visit;
use crate::bridge::adoption;
use crate::bridge::app_session::AppSession;
use crate::bridge::rules::SessionRules;
use crate::bridge::timeline::What;
use crate::bridge::url::{Clean, Found, UrlTokenValue};
use crate::net::body::Body;
use crate::registry::{Refusal, Slot};
use crate::route::Route;
use crate::setting::Setting;
use crate::store::{Key, Outage};
use crate::telemetry::labels::UrlTokenResult;

/// For as long no other proxy takes a token that one has looked at: until what that made of it is in the store.
const ONCE: Duration = Duration::from_secs(10);

/// What a request's URL said about tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    /// The app that it arrived at.
    pub(super) route: &'a Route,
    /// The request.
    pub(super) inbound: &'a Inbound<'a>,
    /// Its URL without tokens.
    pub(super) clean: &'a Clean<'a>,
    /// What was found in it.
    pub(super) found: &'a Found,
}

impl Proxy {
    /// Weighs the tokens of a URL. `Some` is the answer to a navigation: a redirect to the clean URL, or to the host where
    /// the browser can show who it is.
    pub(super) async fn arrive(
        self: &Rc<Self>,
        map: &Rc<Setting>,
        arrived: &Arrived<'_>,
        visit: &mut Visit,
        note: &mut Note,
    ) -> Result<Option<Response<Body>>, Error> {
        let (found, inbound) = (arrived.found, arrived.inbound);
        let app = arrived.route.rules.app.index();
        let Some(session) = arrived.route.rules.session.as_ref().filter(|_| found.any()) else {
            return Ok(None);
        };
        if found.malformed {
            self.shard.url_tokens(app, UrlTokenResult::Malformed, 1);
            note.events.push("url_token_malformed");
        }
        for token in &found.tokens {
            if self.is_own(visit, token) {
                self.shard.url_tokens(app, UrlTokenResult::Own, 1);
                continue;
            }
            let owner = map.route(token.app);
            if let Some(owner) = owner.filter(|owner| is_elsewhere(owner, inbound)) {
                let short =
                    inbound.uri.path_and_query().is_some_and(|target| target.as_str().len() <= join::LONGEST);
                if short && inbound.navigation && inbound.method == http::Method::GET {
                    self.shard.url_tokens(app, UrlTokenResult::Joined, 1);
                    return Ok(Some(self.join_start(map, arrived, owner).await?));
                }
                continue;
            }
            self.weigh(map, arrived, session, token, (visit, note)).await?;
        }
        if found.tokens.is_empty() && !found.malformed {
            self.shard.url_tokens(app, UrlTokenResult::Cut, 1);
        }
        let shown = found.mapped && session.keep_url_tokens;
        let redirect = inbound.navigation && inbound.method == http::Method::GET && !shown;
        Ok(redirect.then(|| super::reply::see_other(&inbound.absolute(&arrived.clean.to_text()))))
    }

    /// True where the browser's own session has a live token of that app: there is nothing to adopt.
    fn is_own(&self, visit: &Visit, token: &UrlTokenValue) -> bool {
        let slot = visit.slot.as_ref();
        slot.is_some_and(|slot| {
            slot.with(|session| session.app(token.app).is_some_and(AppSession::has_token))
        })
    }

    /// Adopts a token that was issued through this proxy to a client without a bridge cookie, by the rules of `adoption`.
    async fn weigh(
        self: &Rc<Self>,
        map: &Rc<Setting>,
        arrived: &Arrived<'_>,
        rules: &SessionRules,
        token: &UrlTokenValue,
        (visit, note): (&mut Visit, &mut Note),
    ) -> Result<(), Error> {
        let (inbound, app) = (arrived.inbound, arrived.route.rules.app.index());
        if !self.shared.adoptions.allows(inbound.address(), inbound.now) {
            self.shard.url_tokens(app, UrlTokenResult::RateLimited, 1);
            note.events.push("url_token_rate_limited");
            return Ok(());
        }
        let own_step = adoption::is_own_step(
            rules.adopt,
            inbound.method,
            inbound.fetch,
            inbound.fields.all,
            &inbound.host,
        );
        let taken = if own_step && !visit.kept_away {
            self.take_orphan(token, inbound).await?
        } else {
            Err(Refusal::Unknown)
        };
        match taken {
            Ok((app_session, left)) => {
                let taken = self.take_over(map, inbound, app_session, visit);
                self.shared.registry.put(&left);
                taken?;
                self.shard.url_tokens(app, UrlTokenResult::Adopted, 1);
                note.events.push("adopted_from_url");
                note.token = TokenCame::Url;
                visit.tell(note);
            }
            Err(_) => {
                self.shared.adoptions.count(inbound.address(), inbound.now);
                self.shard.url_tokens(app, UrlTokenResult::Refused, 1);
                note.events.push("url_token_refused");
                if let Some(slot) = &visit.slot {
                    slot.with(|session| {
                        session.timeline.note(inbound.now, Some(token.app), What::UrlTokenRefused);
                    });
                }
            }
        }
        Ok(())
    }

    /// Takes a token from the pending session that was given it: once, whichever proxy it comes to.
    async fn take_orphan(
        &self,
        token: &UrlTokenValue,
        inbound: &Inbound<'_>,
    ) -> Result<Result<(AppSession, Arc<Slot>), Refusal>, Error> {
        let (registry, parts) = (&self.shared.registry, || token.parts.iter().map(|part| &**part));
        if registry.is_shared() {
            let hash = registry.token_hash(token.app, parts());
            let outage = |Outage| Error::StoreOutage;
            registry.refresh(Key::Token(hash), inbound.now).await.map_err(outage)?;
            let what = [b"orphan", &hash.to_be_bytes()[..]].concat();
            if !registry.store().claim(&what, ONCE).await.map_err(outage)? {
                return Ok(Err(Refusal::Bound));
            }
        }
        Ok(registry.take_orphan(token.app, parts(), inbound.address(), inbound.now))
    }

    /// Puts an app session that was taken from a pending bridge session into the browser's own, under a new id: whoever
    /// knew the old one is cut off.
    fn take_over(
        self: &Rc<Self>,
        map: &Rc<Setting>,
        inbound: &Inbound<'_>,
        mut app_session: AppSession,
        visit: &mut Visit,
    ) -> Result<(), Error> {
        let app = app_session.app;
        app_session.adopted = true;
        let slot = match &visit.slot {
            Some(slot) => Arc::clone(slot),
            None => self.found(inbound, visit)?,
        };
        self.take_in(map, &slot, app_session, inbound.now);
        slot.with(|session| session.timeline.note(inbound.now, Some(app), What::AdoptedUrl));
        if visit.gives.is_none() {
            self.renew(&slot, visit, inbound);
            self.arm(&slot, map);
        }
        Ok(())
    }
}

/// True where the app has hosts of its own and this is none of them.
fn is_elsewhere(owner: &Route, inbound: &Inbound<'_>) -> bool {
    !owner.hosts.is_empty() && !owner.hosts.iter().any(|host| **host == inbound.host)
}
