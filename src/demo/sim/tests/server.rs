//! Applications behind HTTP, in memory and on a port.

use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use super::{
    super::server::{Clock, SimHandle, serve_stream, spawn_thread},
    *,
};

fn paused_clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || T0 + u64::try_from(start.elapsed().as_millis()).unwrap())
}

fn app(profile: Profile) -> SimHandle {
    SimHandle::new(SimOptions::new(profile, "AppA").timeout_ms(10_000), paused_clock())
}

type Sender = http1::SendRequest<Empty<Bytes>>;

async fn client<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Sender {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

async fn connect(app: &SimHandle) -> Sender {
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve_stream(app.clone(), far, HOME));
    client(near).await
}

fn ask(uri: &str, cookie: &str) -> Request<Empty<Bytes>> {
    let request =
        Request::builder().uri(uri).header("host", "apps.test").header("accept", "application/json");
    request.header("cookie", cookie).body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn keeps_connections_and_follows_the_given_clock() {
    let app = app(Profile::PhpLock);
    let mut client = connect(&app).await;
    let first = client.send_request(ask("/AppA/index.php", "a=b")).await.unwrap();
    let cookie = first.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    first.collect().await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let second = client.send_request(ask("/AppA/index.php", &cookie)).await.unwrap();
    let body = second.collect().await.unwrap().to_bytes();
    let facts: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((facts["started"].as_u64(), facts["seconds"].as_u64()), (Some(T0), Some(4)));
}

/// How long two slow requests of one session take together.
async fn two_at_once(profile: Profile, cookie: &str) -> u64 {
    let app = app(profile);
    let (mut one, mut two) = (connect(&app).await, connect(&app).await);
    let start = Instant::now();
    let slow = || ask("/AppA/slow?ms=2000", cookie);
    let (a, b) = tokio::join!(one.send_request(slow()), two.send_request(slow()));
    assert!(a.is_ok() && b.is_ok());
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_session_wait_in_line_on_php_and_aspnet_only() {
    let php = "PHPSESSID=aaaaaaaaaaaaaaaaaaaaaaaaaa";
    assert_eq!(two_at_once(Profile::PhpLock, php).await, 4);
    assert_eq!(two_at_once(Profile::PhpLock, "other=1").await, 2);
    assert_eq!(two_at_once(Profile::AspNet, "ASP.NET_SessionId=abcdefghijklmnopqrst0123").await, 4);
    assert_eq!(two_at_once(Profile::Servlet, "JSESSIONID=A").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_hangs_leaves_the_others_alone() {
    let app = app(Profile::Servlet);
    app.with(|sim| sim.set_fault("ping", Fault::Hang));
    let (mut one, mut two) = (connect(&app).await, connect(&app).await);
    let hung = tokio::time::timeout(Duration::from_secs(60), one.send_request(ask("/AppA/ping", ""))).await;
    assert!(hung.is_err());
    assert_eq!(two.send_request(ask("/AppA/index", "")).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn events_come_once_a_second() {
    let app = app(Profile::Express);
    let mut client = connect(&app).await;
    let mut answer = client.send_request(ask("/AppA/sse", "")).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    for second in 0..3 {
        let event = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(event, format!("data: {{\"now\":{}}}\n\n", T0 + second * 1000));
    }
}

#[tokio::test]
async fn a_web_socket_echoes() {
    let app = app(Profile::Express);
    let mut client = connect(&app).await;
    let mut request = ask("/AppA/ws", "");
    // The example of RFC 6455, part 1.3.
    for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request.headers_mut().insert("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"\x81\x02hi");
}

#[tokio::test]
async fn a_thread_of_its_own_serves_a_port_and_stops() {
    let (address, remote) = spawn_thread(SimOptions::new(Profile::Lucee, "AppA"), Arc::new(|| T0)).unwrap();
    let mut client = client(tokio::net::TcpStream::connect(address).await.unwrap()).await;
    assert_eq!(client.send_request(ask("/AppA/", "")).await.unwrap().status(), 200);
    assert_eq!(remote.handle.with(|sim| sim.counts().starts), 1);
    drop(remote);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
