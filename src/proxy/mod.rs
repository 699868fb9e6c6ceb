//! Browsers' requests: the story of each, and the parts that it is told with.
//!
//! `handler` orders the steps; `inbound` reads what arrived, `arrival` decides on tokens in the URL, `visit` finds the
//! bridge session, `exchange` is the way to the app and back, `pages` are the proxy's own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::bridge::adoption;
use crate::clock::Clock;
use crate::net::client::Client;
use crate::ping::Pinger;
use crate::registry::Registry;
use crate::registry::agenda::Agenda;
use crate::setting::Setting;
use crate::setting::options::Options;
use crate::sign_out::SignOut;
use crate::store::shared::OnOutage;
use crate::telemetry::RequestIds;
use crate::telemetry::access::AccessSink;
use crate::telemetry::metrics::Shard;
use crate::time::Timestamp;

mod adopt;
mod arrival;
mod back;
mod copies;
pub mod error;
mod exchange;
mod forms;
mod handler;
pub mod inbound;
mod join;
mod joins;
pub mod limits;
mod note;
mod owners;
mod pages;
mod release;
pub mod reply;
mod roundtrip;
pub mod served;
mod stream;
mod visit;

use joins::Joins;
use limits::Buckets;
use served::Served;

/// What all threads share. Written rarely, and never for a request that changes nothing.
#[derive(Debug)]
pub struct Shared {
    registry: Arc<Registry>,
    clock: Clock,
    joins: Joins,
    new_sessions: Buckets,
    adoptions: Buckets,
    /// When the apps were first served here: the window of `adopt_cookies` begins then.
    served: Served,
    /// Where several proxies share the store: what becomes of requests while it is away.
    on_outage: Option<OnOutage>,
}

impl Shared {
    /// What the proxies of all threads share.
    #[must_use]
    pub fn new(registry: Arc<Registry>, options: &Options, clock: Clock) -> Self {
        let rate = options.new_sessions;
        Self {
            registry,
            clock,
            joins: Joins::default(),
            new_sessions: Buckets::new(rate.per_second, rate.burst),
            adoptions: limits::tries(adoption::TRIES_A_MINUTE, std::time::Duration::from_secs(60)),
            served: Served::default(),
            on_outage: None,
        }
    }

    /// The same, of sessions that several proxies share.
    #[must_use]
    pub fn with_outages(self, on_outage: Option<OnOutage>) -> Self {
        Self { on_outage, ..self }
    }

    /// True where everything goes on in memory while the store is away.
    fn goes_on(&self) -> bool {
        self.on_outage == Some(OnOutage::Degrade)
    }

    /// True where nobody is served who needs a session while the store is away.
    fn is_strict(&self) -> bool {
        self.on_outage == Some(OnOutage::Strict)
    }

    /// When each app was first served here. What an earlier process knew of it is put in here.
    #[must_use]
    pub const fn served(&self) -> &Served {
        &self.served
    }

    /// From now on clients are bounded by `options`.
    pub fn follow(&self, options: &Options) {
        self.new_sessions.set(options.new_sessions.per_second, options.new_sessions.burst);
    }
}

/// The proxy on one thread.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    setting: RefCell<Rc<Setting>>,
    client: Client,
    agenda: Agenda,
    shard: Rc<Shard>,
    access: Rc<RefCell<AccessSink>>,
    ids: RefCell<RequestIds>,
    sign_out: SignOut,
    pinger: Pinger,
    interned: RefCell<visit::Interned>,
}

/// What a thread gives its proxy.
#[derive(Debug)]
pub struct Parts {
    /// Apps, servers, options.
    pub setting: Rc<Setting>,
    /// Requests to apps.
    pub client: Client,
    /// Sends heartbeats that a person asks for.
    pub pinger: Pinger,
    /// Where sessions to be watched are put.
    pub agenda: Agenda,
    /// Counters.
    pub shard: Rc<Shard>,
    /// The apps' own sign-outs.
    pub sign_out: SignOut,
    /// The access log.
    pub access: AccessSink,
    /// Request ids.
    pub ids: RequestIds,
}

impl Proxy {
    /// The proxy of one thread.
    #[must_use]
    pub fn new(shared: Arc<Shared>, parts: Parts) -> Self {
        Self {
            shared,
            setting: RefCell::new(parts.setting),
            client: parts.client,
            agenda: parts.agenda,
            shard: parts.shard,
            access: Rc::new(RefCell::new(parts.access)),
            ids: RefCell::new(parts.ids),
            pinger: parts.pinger,
            sign_out: parts.sign_out,
            interned: RefCell::default(),
        }
    }

    /// The setting that requests which begin now will use.
    #[must_use]
    pub fn setting(&self) -> Rc<Setting> {
        Rc::clone(&self.setting.borrow())
    }

    /// Requests that begin from now on use `setting`; those that have begun go on with the one that they have.
    pub fn follow(&self, setting: Rc<Setting>) {
        self.setting.replace(setting);
    }

    /// Hands the lines of the access log that are ready to its writer.
    pub fn flush(&self) {
        self.access.borrow_mut().flush();
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}
