//! A proxy as far as the store sees it: sessions that are sets of numbers, which grow and merge.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use sessionbridge::clock::Clock;
use sessionbridge::secret::Secret;
use sessionbridge::store::shared::{self, SharedOptions, Topology};
use sessionbridge::store::{Fetched, Head, Index, Key, Mark, News, Record, Store};
use sessionbridge::time::Timestamp;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What is in every session, and must not be seen in the store.
pub(crate) const TOKEN: &[u8] = b"CFTOKEN=59127733";

/// A session.
pub(crate) struct Toy {
    name: [u8; 8],
    state: Mutex<State>,
    /// What it was put in under.
    mark: Mutex<Mark>,
}

#[derive(Clone, Default)]
struct State {
    values: BTreeSet<u32>,
    head: Head,
    merges: u32,
}

impl Toy {
    pub(crate) fn values(&self) -> Vec<u32> {
        self.state.lock().unwrap().values.iter().copied().collect()
    }

    pub(crate) fn add(&self, value: u32) {
        self.state.lock().unwrap().values.insert(value);
    }

    pub(crate) fn end(&self) {
        self.state.lock().unwrap().head.ended = true;
    }

    /// From here on nothing but clocks changes.
    pub(crate) fn quiet(&self) {
        self.state.lock().unwrap().head.quiet = true;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().unwrap().head.ended
    }

    pub(crate) fn head(&self) -> Head {
        self.state.lock().unwrap().head.clone()
    }

    pub(crate) fn merges(&self) -> u32 {
        self.state.lock().unwrap().merges
    }

    /// What leads to it, to be entered with the next write.
    pub(crate) fn index(&self, index: &[Index]) {
        self.state.lock().unwrap().head.index = index.iter().copied().collect();
    }

    fn take_in(&self, theirs: &[u8], head: &Head) {
        let values = theirs.strip_prefix(TOKEN).unwrap();
        let mut state = self.state.lock().unwrap();
        state.values.extend(values.chunks(4).map(|value| u32::from_be_bytes(value.try_into().unwrap())));
        state.head.tag = head.tag;
        if head.epoch > state.head.epoch || state.head.owner == 0 {
            (state.head.owner, state.head.epoch) = (head.owner, head.epoch);
        }
        state.merges += 1;
    }
}

impl Record for Toy {
    fn name(&self) -> [u8; 8] {
        self.name
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<Head> {
        let state = self.state.lock().unwrap();
        if !state.head.ended {
            out.extend_from_slice(TOKEN);
            state.values.iter().for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
        }
        let expires = Clock::system().now().plus(Duration::from_secs(3600));
        Some(Head { expires, ..state.head.clone() })
    }

    fn written(&self, tag: u64, _at: Timestamp) {
        let mut state = self.state.lock().unwrap();
        state.head.tag = tag;
        state.head.index.clear();
    }

    fn lost(&self) {
        self.state.lock().unwrap().head.tag = 0;
    }

    fn merge(&self, theirs: &[u8], head: &Head) -> Result<(), String> {
        self.take_in(theirs, head);
        Ok(())
    }
}

/// What the news change.
#[derive(Default)]
struct Seen {
    sessions: Mutex<HashMap<[u8; 8], Arc<Toy>>>,
    news: Mutex<Vec<News>>,
    told: Notify,
    store: OnceLock<WeakStore>,
}

/// The store is put into by what it tells, and must not keep itself alive.
struct WeakStore(Mutex<Weak<Store>>);

/// A proxy.
pub(crate) struct Proxy {
    pub(crate) store: Arc<Store>,
    pub(crate) secret: [u8; 32],
    seen: Arc<Seen>,
    _keys: TempDir,
}

/// Options for these addresses.
pub(crate) fn options(urls: &[String], topology: Topology) -> SharedOptions {
    let urls = urls.iter().map(|url| Secret::new(url.as_bytes())).collect();
    SharedOptions { urls, topology, ..SharedOptions::default() }
}

/// A key file, the same for all.
pub(crate) fn keys() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys"), "k1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    folder
}

pub(crate) fn opened(options: &SharedOptions) -> (shared::Opened, TempDir) {
    let keys = keys();
    let opened = shared::open(options, &keys.path().join("keys"), sessionbridge::random::bytes());
    (opened.unwrap(), keys)
}

impl Proxy {
    pub(crate) fn start(url: &str) -> Self {
        Self::with(&options(&[url.to_owned()], Topology::Single))
    }

    pub(crate) fn with(options: &SharedOptions) -> Self {
        let (opened, keys) = opened(options);
        let store = Arc::new(opened.store());
        let secret = *opened.secret();
        let seen = Arc::new(Seen::default());
        let _ = seen.store.set(WeakStore(Mutex::new(Arc::downgrade(&store))));
        let hears = Arc::clone(&seen);
        opened.start(move |news| hears.hear(news));
        Self { store, secret, seen, _keys: keys }
    }

    /// One that hears.
    pub(crate) async fn ready(url: &str) -> Self {
        let proxy = Self::start(url);
        proxy.is_ready().await;
        proxy
    }

    pub(crate) async fn is_ready(&self) {
        until("a lease and news", || self.store.has_lease() && self.store.news_heard_since().is_some()).await;
    }

    /// A session that is not in the store yet.
    pub(crate) fn session(&self, name: u64) -> Arc<Toy> {
        let head = Head { owner: self.store.me(), ..Head::default() };
        self.take(name.to_be_bytes(), State { head, ..State::default() })
    }

    fn take(&self, name: [u8; 8], state: State) -> Arc<Toy> {
        let toy = Arc::new(Toy { name, state: Mutex::new(state), mark: Mutex::default() });
        self.seen.sessions.lock().unwrap().insert(name, Arc::clone(&toy));
        toy
    }

    /// Has it written, without waiting.
    pub(crate) fn put(&self, toy: &Arc<Toy>) -> Mark {
        let record = Arc::clone(toy);
        let mut was = toy.mark.lock().unwrap();
        *was = self.store.put(*was, || record);
        *was
    }

    /// Has it written; it is when this returns.
    pub(crate) async fn save(&self, toy: &Arc<Toy>) {
        let mark = self.put(toy);
        self.committed(mark).await;
    }

    /// Waits until it is written, over outages.
    pub(crate) async fn committed(&self, mark: Mark) {
        until("a commit", || self.store.is_committed(mark)).await;
    }

    pub(crate) async fn fetch(&self, name: u64) -> Fetched {
        self.store.fetch(Key::Name(name.to_be_bytes())).await.unwrap()
    }

    /// Its values as the store has them.
    pub(crate) async fn stored(&self, name: u64) -> Vec<u32> {
        match self.fetch(name).await {
            Fetched::Record { head, record, .. } => {
                let toy = Toy { name: name.to_be_bytes(), state: Mutex::default(), mark: Mutex::default() };
                toy.take_in(&record, &head);
                toy.values()
            }
            other => panic!("{other:?}"),
        }
    }

    /// A copy of what is in the store.
    pub(crate) async fn copy(&self, name: u64) -> Arc<Toy> {
        let Fetched::Record { head, record, .. } = self.fetch(name).await else { panic!("there is none") };
        let toy = self.take(name.to_be_bytes(), State::default());
        toy.take_in(&record, &head);
        toy
    }

    /// What was told so far.
    pub(crate) fn news(&self) -> Vec<News> {
        self.seen.news.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, news: &News) -> usize {
        self.news().iter().filter(|told| *told == news).count()
    }

    /// Waits until that is told, and how long it took.
    pub(crate) async fn hears(&self, news: News) -> Duration {
        let began = Instant::now();
        let heard = async {
            loop {
                let told = self.seen.told.notified();
                tokio::pin!(told);
                told.as_mut().enable();
                if self.count(&news) > 0 {
                    return;
                }
                told.await;
            }
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        assert!(heard.is_ok(), "never heard {news:?}, only {:?}", self.news());
        began.elapsed()
    }
}

impl Seen {
    /// What a registry does with news.
    fn hear(&self, news: News) {
        let store = || self.store.get().unwrap().0.lock().unwrap().upgrade();
        let put = |toys: Vec<Arc<Toy>>| {
            if let Some(store) = store() {
                for toy in toys {
                    store.put(Mark::default(), || toy);
                }
            }
        };
        let sessions = self.sessions.lock().unwrap();
        match &news {
            News::Again(name) => put(sessions.get(name).cloned().into_iter().collect()),
            News::All => put(sessions.values().cloned().collect()),
            News::Ended(name) => {
                if let Some(toy) = sessions.get(name) {
                    toy.end();
                }
            }
            _ => {}
        }
        drop(sessions);
        self.news.lock().unwrap().push(news);
        self.told.notify_waiters();
    }
}

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}
