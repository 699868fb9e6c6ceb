//! A way to a server that can be cut, held and slowed down: what a network does, without one.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How the way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes pass, each so much later.
    Open(Duration),
    /// Connections stand, and not a byte passes.
    Held,
    /// Nobody gets through; whoever was connected no longer is.
    Cut,
}

/// A way to one server.
pub(crate) struct Link {
    /// Where it begins.
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    way: Mutex<Way>,
    changed: Condvar,
}

struct Way {
    state: State,
    /// Where it leads.
    target: SocketAddr,
    /// Connections, both ends.
    open: Vec<TcpStream>,
}

impl Link {
    /// A way to `target`, open.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let way = Way { state: State::Open(Duration::ZERO), target, open: Vec::new() };
        let inner = Arc::new(Inner { way: Mutex::new(way), changed: Condvar::new() });
        let own = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = Arc::clone(&own);
                thread::spawn(move || own.connect(stream));
            }
        });
        Self { address, inner }
    }

    /// As a cable that is pulled, and whose ends notice.
    pub(crate) fn cut(&self) {
        self.set(State::Cut);
    }

    /// As a switch that loses every packet.
    pub(crate) fn hold(&self) {
        self.set(State::Held);
    }

    /// Bytes pass again; those that were held, too.
    pub(crate) fn open(&self) {
        self.set(State::Open(Duration::ZERO));
    }

    /// Each piece passes so much later, either way.
    pub(crate) fn delay(&self, by: Duration) {
        self.set(State::Open(by));
    }

    /// Leads elsewhere from now on; who is connected no longer is.
    pub(crate) fn leads_to(&self, target: SocketAddr) {
        let mut way = self.inner.way();
        way.target = target;
        way.drop_all();
        drop(way);
        self.inner.changed.notify_all();
    }

    fn set(&self, state: State) {
        let mut way = self.inner.way();
        way.state = state;
        if state == State::Cut {
            way.drop_all();
        }
        drop(way);
        self.inner.changed.notify_all();
    }
}

impl Way {
    fn drop_all(&mut self) {
        for stream in self.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Inner {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap()
    }

    /// The delay, once bytes may pass. `None`: no more of them.
    fn passes(&self) -> Option<Duration> {
        let way = self.changed.wait_while(self.way(), |way| way.state == State::Held).unwrap();
        match way.state {
            State::Open(delay) => Some(delay),
            State::Cut | State::Held => None,
        }
    }

    fn connect(self: Arc<Self>, near: TcpStream) {
        if self.passes().is_none() {
            return;
        }
        let target = self.way().target;
        let Ok(far) = TcpStream::connect(target) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { return };
        {
            let mut way = self.way();
            if way.state == State::Cut || way.target != target {
                return;
            }
            way.open.extend([near.try_clone(), far.try_clone()].into_iter().flatten());
        }
        let own = Arc::clone(&self);
        thread::spawn(move || own.pump(far_too, near_too));
        self.pump(near, far);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(many @ 1..) = from.read(&mut bytes) {
            let Some(delay) = self.passes() else { break };
            if !delay.is_zero() {
                thread::sleep(delay);
            }
            if to.write_all(&bytes[..many]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

#[test]
fn a_way_is_open_held_slow_cut_and_leads_elsewhere() {
    let echo = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut byte = [0];
                    while let Ok(1) = stream.read(&mut byte) {
                        let _ = stream.write_all(&byte);
                    }
                });
            }
        });
        address
    };
    let says = |stream: &mut TcpStream| {
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
    };
    let link = Link::to(echo());
    let connect = || {
        let stream = TcpStream::connect(link.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream
    };
    let mut stream = connect();
    assert!(says(&mut stream));
    link.hold();
    assert!(!says(&mut stream), "nothing passes");
    link.open();
    stream.read_exact(&mut [0]).unwrap();
    let began = tokio::time::Instant::now();
    link.delay(Duration::from_millis(20));
    assert!(says(&mut stream) && began.elapsed() >= Duration::from_millis(40));
    link.cut();
    assert!(!says(&mut stream) && !says(&mut connect()));
    link.open();
    assert!(says(&mut connect()));
    link.leads_to(echo());
    assert!(says(&mut connect()));
}
