//! The `init` command: looks at running apps as an anonymous visitor and drafts a config for them.
//!
//! Invariant: a leaf beside `app`. Nothing is sent but GETs to the apps' own servers, nothing is followed that might change
//! something, and no value of a cookie is written anywhere.

mod canary;
mod choose;
mod crawl;
mod draft;
mod exits;
mod facts;
mod links;
mod place;
mod proof;
mod recognise;
mod visitor;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use self::draft::{App, Wanted};
use self::facts::Seen;
use self::place::Place;
pub use self::place::Trouble;
use self::visitor::Way;
use crate::clock::Clock;
use crate::config;
use crate::net::{Client, ClientOptions, Dialer, Upstream, UpstreamIx};

/// Where the drafted proxy listens unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// What `init` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct InitArgs {
    /// Addresses of running apps, each with the app's own path: http://127.0.0.1:8501/AppA/
    #[arg(required = true, value_name = "URL")]
    pub urls: Vec<String>,
    /// Where the proxy is to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = LISTEN)]
    pub listen: SocketAddr,
    /// The session timeout of the apps, where you know it: "20m"
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub timeout: Option<Duration>,
    /// Write the config into this file instead of to standard output
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long, requires = "out")]
    pub force: bool,
}

/// What came out.
#[derive(Debug)]
pub struct Drafted {
    /// The config; `None` where no app could be looked at.
    pub text: Option<String>,
    /// The URLs that are not in it, each with why.
    pub failed: Vec<(String, Trouble)>,
}

/// Why there is not all that was asked for.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{0} exists: --force overwrites it")]
    Exists(PathBuf),
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{failed} of {all} apps could not be looked at")]
    Failed { failed: usize, all: usize },
    #[error("the draft was written, but is no good config as it stands:\n{0}")]
    Draft(String),
}

/// Looks at the apps and writes the draft.
///
/// # Errors
/// Where an app cannot be looked at (the others are drafted all the same), or the draft cannot be written.
pub fn run(args: &InitArgs) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(path) = args.out.as_ref().filter(|path| path.exists() && !args.force) {
        return Err(InitError::Exists(path.clone()).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(Dialer::Sockets, ClientOptions::default());
    let wanted = Wanted { listen: args.listen, timeout: args.timeout };
    let mut progress = say;
    let work = draft_all((&client, Clock::system()), &args.urls, wanted, &mut progress);
    let drafted = tokio::task::LocalSet::new().block_on(&runtime, work);
    if let Some(text) = &drafted.text {
        let (text, mistakes) = proof::tried(text, io::stderr().is_terminal());
        write(args, &text)?;
        if let Some(mistakes) = mistakes {
            return Err(InitError::Draft(mistakes).into());
        }
    }
    let (failed, all) = (drafted.failed.len(), args.urls.len());
    if failed == 0 { Ok(()) } else { Err(InitError::Failed { failed, all }.into()) }
}

/// Looks at the apps at `urls` through `client` and drafts a config that listens at `listen`. Progress goes to `say`. Must run
/// in a `LocalSet`.
pub async fn draft(
    client: &Client,
    clock: Clock,
    urls: &[String],
    listen: SocketAddr,
    say: &mut dyn FnMut(&str),
) -> Drafted {
    draft_all((client, clock), urls, Wanted { listen, timeout: None }, say).await
}

async fn draft_all(
    (client, clock): (&Client, Clock),
    urls: &[String],
    wanted: Wanted,
    say: &mut dyn FnMut(&str),
) -> Drafted {
    let mut places: Vec<(String, Place)> = Vec::new();
    let mut failed = Vec::new();
    for url in urls {
        match Place::parse(url) {
            Ok(place) if !places.iter().any(|(_, own)| same(own, &place)) => places.push((shown(url), place)),
            Ok(_) => say(&format!("{}: named twice\n", shown(url))),
            Err(trouble) => failed.push((shown(url), trouble)),
        }
    }
    let mut found = Vec::new();
    for (ix, (url, place)) in (0..=u16::MAX).zip(&places) {
        say(&format!("{url}: looking at it\n"));
        let inside = |other: &&(String, Place)| {
            other.1.upstream == place.upstream
                && other.1.mount.len() > place.mount.len()
                && place.contains(&other.1.mount)
        };
        let foreign: Vec<String> =
            places.iter().filter(inside).map(|(_, other)| other.mount.clone()).collect();
        let upstream = Upstream::new(UpstreamIx(ix), place.origin.clone());
        let deadline = Instant::now() + crawl::PATIENCE;
        let way = Way { client, upstream: &upstream, place, clock, deadline };
        match crawl::look(way, &foreign).await {
            Ok(seen) => found.push((url, place, seen)),
            Err(trouble) => failed.push((url.clone(), trouble)),
        }
    }
    let mut apps: Vec<App> = Vec::new();
    for (url, place, seen) in &found {
        let app = known(place, seen, &apps);
        say(&format!("{url}: {}\n", proof::without(&summary(&app, seen), &seen.secrets(), urls)));
        apps.push(app);
    }
    for (url, trouble) in &failed {
        say(&format!("{url}: {}\n", whole(trouble)));
    }
    let secrets: Vec<Vec<u8>> = found.iter().flat_map(|(_, _, seen)| seen.secrets()).collect();
    let text = || proof::without(&draft::draft(&apps, wanted), &secrets, urls);
    Drafted { text: (!apps.is_empty()).then(text), failed }
}

fn same(one: &Place, two: &Place) -> bool {
    one.upstream == two.upstream && one.mount.eq_ignore_ascii_case(&two.mount)
}

/// A URL as it may be repeated: without its query, which may hold a session's id.
fn shown(url: &str) -> String {
    let cut = url.split(['?', '#', ';']).next().unwrap_or_default();
    cut.chars().filter(|letter| !letter.is_control()).collect()
}

/// All that is known of an app, from what was seen.
fn known(place: &Place, seen: &Seen, others: &[App]) -> App {
    let engine = recognise::recognise(place, seen);
    let choice = choose::choose(place, seen, engine.as_ref());
    App {
        name: name(place, others),
        engine,
        choice,
        pages: std::iter::once(place.entry.clone())
            .chain(seen.pages.iter().map(|visit| visit.public.clone()))
            .collect(),
        sign_in: seen.sign_in.clone(),
        sign_out: seen.sign_out.clone(),
        cookies: seen.cookies(),
        extension: choose::page_extension(seen),
        is_iis: seen.hops().any(|hop| hop.header("server").to_ascii_lowercase().contains("microsoft-iis")),
        notes: notes(seen),
        place: place.clone(),
    }
}

/// `AppA` is called `appA`; an app at `/` is called after its host.
fn name(place: &Place, others: &[App]) -> String {
    let host = if place.host.parse::<IpAddr>().is_ok() {
        "app"
    } else {
        place.host.split('.').next().unwrap_or("app")
    };
    let last =
        place.mount.trim_matches('/').rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or(host);
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_') { letter } else { '-' }
    };
    let mut base: String = last.chars().take(48).map(plain).collect();
    if let Some(first) = base.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let is_free = |name: &String| !others.iter().any(|other| other.name.eq_ignore_ascii_case(name));
    let numbered = (2..).map(|number: u32| format!("{base}{number}"));
    std::iter::once(base.clone()).chain(numbered).find(is_free).unwrap_or(base)
}

/// What a reader of the draft should know besides.
fn notes(seen: &Seen) -> Vec<String> {
    let mut notes = Vec::new();
    let first = seen.pages.first().and_then(facts::Visit::last);
    if let Some(status @ (401 | 403)) = first.map(|hop| hop.status) {
        notes.push(format!("Its first page answers {status}: little could be seen without signing in."));
    }
    for path in seen.left_for.iter().take(3) {
        notes.push(format!("A redirect leads to {path}, outside of its own path: not followed."));
    }
    notes.extend(seen.cut_short.map(|why| format!("Not all was looked at: {why}.")));
    notes
}

/// One line for whoever waits.
fn summary(app: &App, seen: &Seen) -> String {
    let engine = app.engine.as_ref().map_or("no session", |found| config::engines::name(found.engine));
    let page = app.choice.chosen.as_ref().map_or("no page for heartbeats", |chosen| &chosen.path);
    format!("{engine}; {} pages; heartbeats: {page}", seen.pages.len())
}

/// An error and all its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn write(args: &InitArgs, text: &str) -> Result<(), InitError> {
    let Some(path) = &args.out else {
        // Whoever has closed standard output does not want to know.
        let _ = io::stdout().write_all(text.as_bytes());
        return Ok(());
    };
    let failed = |source| InitError::Write { path: path.clone(), source };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).truncate(true).create(args.force).create_new(!args.force);
    let mut file = options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => InitError::Exists(path.clone()),
        _ => failed(source),
    })?;
    file.write_all(text.as_bytes()).map_err(failed)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span < Duration::from_secs(1) { Err("at least a second".to_owned()) } else { Ok(span) }
}

/// To standard error; whoever has closed it does not want to know.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
