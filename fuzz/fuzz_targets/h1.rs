//! Answers of an app in arbitrary pieces: the client never panics, how the bytes were cut makes no difference, a body that broke
//! off never looks complete, and no byte of one answer ever gets into the next.
#![no_main]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use libfuzzer_sys::fuzz_target;
use sessionbridge::net::{
    Body, Client, ClientOptions, Deadlines, Dialer, Origin, SendError, Upstream, UpstreamIx,
};
use sessionbridge::wire::request::Head;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::{LocalSet, spawn_local};

const NEXT: &[u8] = b"HTTP/1.1 200 OK\r\nX-Next: yes\r\nContent-Length: 4\r\n\r\nnext";

/// What the client made of an answer; the body is an error where it broke off.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    status: StatusCode,
    fields: Vec<(String, Vec<u8>)>,
    body: Result<Vec<u8>, ()>,
}

/// How the app goes about it.
#[derive(Clone, Copy)]
struct Manner {
    head: bool,
    closes: bool,
    step: usize,
}

/// The app: the first request that ever comes gets `answer`, all others [`NEXT`].
async fn play(mut io: DuplexStream, answer: Rc<[u8]>, manner: Manner, asked: Rc<Cell<u32>>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match io.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let first = asked.replace(asked.get() + 1) == 0;
        for piece in (if first { &*answer } else { NEXT }).chunks(manner.step) {
            if io.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if first && manner.closes {
            return;
        }
    }
}

async fn ask(client: &Client, method: &Method) -> Result<Made, SendError> {
    let upstream = Upstream::new(UpstreamIx(0), Origin::Memory("app".to_owned()));
    let headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("app"))]);
    let head = Head::with(method.clone(), "/", &headers);
    let deadlines = Deadlines { connect: Duration::from_secs(5), first_byte: Duration::from_secs(5) };
    let answer = client.send(&upstream, &head, Body::empty(), &deadlines).await?;
    let fields = answer.parts.headers.iter();
    let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    let body = tokio::time::timeout(Duration::from_secs(600), answer.body.collect()).await;
    let body =
        body.map_err(|_| ()).and_then(|body| body.map(|body| body.to_bytes().to_vec()).map_err(|_| ()));
    Ok(Made { status: answer.parts.status, fields, body })
}

/// One answer, then another request: what came of the first.
async fn both(answer: Rc<[u8]>, manner: Manner) -> Option<Made> {
    let asked = Rc::new(Cell::new(0));
    let dial = move |_: &str| {
        let (near, far) = tokio::io::duplex(64 * 1024);
        spawn_local(play(far, Rc::clone(&answer), manner, Rc::clone(&asked)));
        Ok(near)
    };
    let client = Client::new(Dialer::Memory(Rc::new(dial)), ClientOptions::default());
    let made = ask(&client, if manner.head { &Method::HEAD } else { &Method::GET }).await.ok();
    // Everything that the app had to say has come.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kept = client.idle(UpstreamIx(0)) > 0;
    assert!(!kept || made.as_ref().is_some_and(|made| made.body.is_ok()), "kept after {made:?}");
    match ask(&client, &Method::GET).await {
        Ok(next) => {
            assert_eq!(next.body.as_deref(), Ok(&b"next"[..]), "after {made:?}");
            assert!(next.fields.iter().any(|(name, _)| name == "x-next"), "after {made:?}");
        }
        Err(SendError::Reset { reused: true, .. }) => {}
        Err(error) => panic!("{error:?} after {made:?}"),
    }
    made
}

fn run(answer: &[u8], manner: Manner) -> Option<Made> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, both(answer.into(), manner))
}

/// Whether the message itself says where it ends.
fn says_its_end(made: &Made) -> bool {
    let framed = |name: &String| name == "content-length" || name == "transfer-encoding";
    made.fields.iter().any(|(name, _)| framed(name)) || matches!(made.status.as_u16(), 204 | 304)
}

fuzz_target!(|input: &[u8]| {
    let [control, cut, answer @ ..] = input else { return };
    let whole = Manner { head: control & 1 == 1, closes: control & 2 == 2, step: usize::MAX };
    let made = run(answer, whole);
    let in_pieces = run(answer, Manner { step: 1 + usize::from(control >> 2), ..whole });
    assert_eq!(made, in_pieces, "pieces make a difference");

    if let Some(made) = &made
        && let Ok(body) = &made.body
        && let Some((_, length)) = made.fields.iter().find(|(name, _)| name == "content-length")
        && !whole.head
        && !matches!(made.status.as_u16(), 204 | 304)
    {
        let length: usize = std::str::from_utf8(length).unwrap().trim().parse().unwrap();
        assert_eq!(length, body.len(), "a body of another length");
    }

    // What is complete in a beginning of the bytes is the same in all of them: else it only looked complete.
    let cut = answer.len() * usize::from(*cut) / 256;
    let beginning = run(&answer[..cut], Manner { closes: true, ..whole });
    if let Some(early) = beginning
        && early.body.is_ok()
        && (says_its_end(&early) || whole.head)
    {
        assert_eq!(Some(early), made, "it broke off after {cut} bytes and looked complete");
    }
});
