//! One connection to the servers of a shared store, and how it is had.
//!
//! Invariants: whoever asks is answered within [`PATIENCE`] or told that the connection is broken; what is told of a failure
//! names neither an address nor a password; a server that another one writes to is never taken for the one to write to.

use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, RedisResult, Value,
};
use tokio::sync::mpsc::UnboundedSender;

use super::options::{SharedOptions, Topology};
use super::scripts;

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// How long a connection may take to be there.
const CONNECTING: Duration = Duration::from_millis(500);
/// The same for a whole cluster.
const FINDING: Duration = Duration::from_secs(2);

/// What a server said to one command.
pub(super) type Answer = Result<Value, Refusal>;

/// Why one command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The server does not know the script yet.
    Script,
    /// What is there is nothing of ours.
    Type,
    /// This server is not to be written to, or is not ready.
    Other(String),
    /// It could not be done now: no memory left, no disk, no leave, a part of the cluster that is away.
    Now(String),
}

/// The connection is gone, or as good as gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(pub(super) String);

/// A connection. Clones are one.
#[derive(Clone)]
pub(super) enum Link {
    /// To one server.
    Single(MultiplexedConnection),
    /// To each of a cluster's.
    Cluster(ClusterConnection),
}

/// How connections are had.
pub(super) struct Dial {
    infos: Vec<ConnectionInfo>,
    topology: Topology,
}

impl Dial {
    /// As `options` say.
    ///
    /// # Errors
    /// Which of the addresses is none, counted from one.
    pub(super) fn new(options: &SharedOptions) -> Result<Self, usize> {
        let parse = |(at, url): (usize, &crate::secret::Secret)| {
            let url = std::str::from_utf8(url.expose()).ok();
            // The crate's own error may say what it could not read, with the password in it.
            let info = url.and_then(|url| url.into_connection_info().ok());
            let settings = |info: &ConnectionInfo| {
                info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name()
            };
            info.map(|info| (settings(&info), info))
                .map(|(settings, info)| info.set_redis_settings(settings))
                .ok_or(at + 1)
        };
        let infos = options.urls.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
        if infos.is_empty() {
            return Err(1);
        }
        Ok(Self { infos, topology: options.topology.clone() })
    }

    /// True where several servers share the keys.
    pub(super) fn is_cluster(&self) -> bool {
        self.topology == Topology::Cluster
    }

    /// Connects, with the scripts loaded; the address beside it is that of the one server.
    pub(super) async fn link(&self) -> Result<(Link, Option<ConnectionInfo>), Broken> {
        let linked = match &self.topology {
            Topology::Single => self.single().await,
            Topology::Sentinel { master } => self.by_sentinel(master).await,
            Topology::Cluster => self.cluster().await.map(|link| (link, None)),
        }?;
        // Whoever may not load scripts brings them along each time that they are not known.
        let loaded = linked.0.send(scripts::load()).await?;
        if let Some(Err(Refusal::Other(why))) =
            loaded.into_iter().find(|answer| matches!(answer, Err(Refusal::Other(_))))
        {
            return Err(Broken(why));
        }
        Ok(linked)
    }

    async fn single(&self) -> Result<(Link, Option<ConnectionInfo>), Broken> {
        let mut last = Broken("there is no address".to_owned());
        for info in &self.infos {
            match connect_to_master(info).await {
                Ok(link) => return Ok((link, Some(info.clone()))),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn by_sentinel(&self, master: &str) -> Result<(Link, Option<ConnectionInfo>), Broken> {
        let mut last = Broken("no sentinel answers".to_owned());
        for info in &self.infos {
            match ask_sentinel(info, master).await {
                Ok(found) => match connect_to_master(&found).await {
                    Ok(link) => return Ok((link, Some(found))),
                    Err(error) => last = error,
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn cluster(&self) -> Result<Link, Broken> {
        let client = ClusterClient::builder(self.infos.clone())
            .use_protocol(ProtocolVersion::RESP2)
            .connection_timeout(CONNECTING)
            .response_timeout(PATIENCE)
            .overall_response_timeout(Some(2 * PATIENCE))
            .retries(4)
            .min_retry_wait(5)
            .max_retry_wait(100)
            .build()
            .map_err(broken)?;
        let connected = tokio::time::timeout(FINDING, client.get_async_connection()).await;
        connected.map_err(|_| late())?.map(Link::Cluster).map_err(broken)
    }

    /// Connects to the server at `at` to hear its news; without one, to any of the cluster's, another at each `turn`.
    pub(super) async fn listen(
        &self,
        at: Option<&ConnectionInfo>,
        turn: usize,
        news: UnboundedSender<PushInfo>,
    ) -> Result<MultiplexedConnection, Broken> {
        let info = at.or_else(|| self.infos.get(turn % self.infos.len().max(1)));
        let info = info.ok_or_else(late)?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.clone().set_redis_settings(settings)).map_err(broken)?;
        let config = config(2 * PATIENCE).set_push_sender(news);
        connect(&client, &config).await
    }
}

fn config(patience: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECTING)).set_response_timeout(Some(patience))
}

async fn connect(client: &Client, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, Broken> {
    // The crate's own bound holds for the connection; a server that hangs may still be silent in the greeting.
    let connected = client.get_multiplexed_async_connection_with_config(config);
    tokio::time::timeout(2 * CONNECTING, connected).await.map_err(|_| late())?.map_err(broken)
}

async fn connect_to_master(info: &ConnectionInfo) -> Result<Link, Broken> {
    let client = Client::open(info.clone()).map_err(broken)?;
    let link = Link::Single(connect(&client, &config(PATIENCE)).await?);
    let role = link.send(vec![redis::cmd("ROLE")]).await?;
    match role.into_iter().next() {
        Some(Ok(Value::Array(role))) if role.first().is_none_or(|role| text(role) != Some("master")) => {
            Err(Broken("the server is a replica".to_owned()))
        }
        Some(Err(Refusal::Other(why))) => Err(Broken(why)),
        // Not everybody may ask; then the first write tells.
        _ => Ok(link),
    }
}

/// Where a sentinel says that the server is that is written to.
async fn ask_sentinel(info: &ConnectionInfo, master: &str) -> Result<ConnectionInfo, Broken> {
    let settings = info.redis_settings().clone().set_db(0);
    let bare = RedisConnectionInfo::default().set_skip_set_lib_name();
    let mut last = late();
    // Sentinels often want no password where the servers behind them do.
    for settings in [settings, bare] {
        let client = Client::open(info.clone().set_redis_settings(settings)).map_err(broken)?;
        let asked = match connect(&client, &config(PATIENCE)).await {
            Ok(connection) => {
                let mut ask = redis::cmd("SENTINEL");
                ask.arg("get-master-addr-by-name").arg(master);
                Link::Single(connection).send(vec![ask]).await
            }
            Err(error) => Err(error),
        };
        match asked.map(|answers| answers.into_iter().next()) {
            Ok(Some(Ok(Value::Array(address)))) => {
                if let [host, port] = &address[..]
                    && let Some((host, port)) = text(host).zip(text(port).and_then(|port| port.parse().ok()))
                {
                    return Ok(info.clone().set_addr(beside(info.addr(), host, port)));
                }
            }
            Ok(Some(Ok(_))) => last = Broken("the sentinels do not know the master by this name".to_owned()),
            Ok(Some(Err(Refusal::Now(why) | Refusal::Other(why)))) => last = Broken(why),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Another address that is spoken to in the same way.
fn beside(like: &ConnectionAddr, host: &str, port: u16) -> ConnectionAddr {
    match like {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host: host.to_owned(),
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host.to_owned(), port),
    }
}

impl Link {
    /// Sends commands, one after the other where one server gets them, and tells what each of them was answered.
    pub(super) async fn send(&self, commands: Vec<Cmd>) -> Result<Vec<Answer>, Broken> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command);
        }
        let mut answers = self.send_once(&pipeline).await?;
        let unknown = |answer: &Answer| matches!(answer, Err(Refusal::Script));
        if answers.iter().any(unknown) {
            let (mut places, mut whole) = (Vec::new(), Pipeline::new());
            for (place, command) in pipeline.cmd_iter().enumerate() {
                if answers.get(place).is_some_and(unknown)
                    && let Some(command) = scripts::whole(command)
                {
                    places.push(place);
                    whole.add_command(command);
                }
            }
            for (place, answer) in places.into_iter().zip(self.send_once(&whole).await?) {
                if let Some(place) = answers.get_mut(place) {
                    *place = answer;
                }
            }
        }
        Ok(answers)
    }

    async fn send_once(&self, commands: &Pipeline) -> Result<Vec<Answer>, Broken> {
        match self {
            Self::Single(connection) => {
                let answers = connection.clone().req_packed_commands(commands, 0, commands.len()).await;
                let answers: Vec<Answer> = answers.map_err(broken)?.into_iter().map(answer).collect();
                if answers.len() == commands.len() {
                    Ok(answers)
                } else {
                    Err(Broken("the server gave too few answers".to_owned()))
                }
            }
            Self::Cluster(connection) => {
                let each = commands.cmd_iter().map(|command| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_command(command).await }
                });
                Ok(join_all(each).await.into_iter().map(answer_of_cluster).collect())
            }
        }
    }

    /// What every server that is written to says to a command, by its address; one server's is empty.
    pub(super) async fn everywhere(&self, command: Cmd) -> Result<Vec<(String, Value)>, Broken> {
        match self {
            Self::Single(_) => {
                let answer = self.send(vec![command]).await?.into_iter().next();
                match answer {
                    Some(Ok(value)) => Ok(vec![(String::new(), value)]),
                    Some(Err(Refusal::Other(why))) => Err(Broken(why)),
                    _ => Ok(Vec::new()),
                }
            }
            Self::Cluster(connection) => {
                let masters = MultipleNodeRoutingInfo::AllMasters;
                let routing = RoutingInfo::MultiNode((masters, Some(ResponsePolicy::Special)));
                match connection.clone().route_command(command, routing).await.map_err(broken)? {
                    Value::Map(each) => Ok(each
                        .into_iter()
                        .filter_map(|(address, value)| Some((text(&address)?.to_owned(), value)))
                        .collect()),
                    _ => Ok(Vec::new()),
                }
            }
        }
    }
}

/// A value's text.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        Value::Okay => Some("OK"),
        _ => None,
    }
}

/// A value's bytes.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn answer(value: Value) -> Answer {
    match value {
        Value::ServerError(error) => Err(refusal(error.code(), error.details())),
        value => Ok(value),
    }
}

fn answer_of_cluster(answered: RedisResult<Value>) -> Answer {
    match answered {
        Ok(value) => answer(value),
        Err(error) => match error.code() {
            Some(code) => Err(refusal(code, error.detail()).by_cluster()),
            None => Err(Refusal::Now(why(&error))),
        },
    }
}

impl Refusal {
    /// In a cluster one server that is not ready is no reason to leave the others.
    fn by_cluster(self) -> Self {
        match self {
            Self::Other(why) => Self::Now(why),
            other => other,
        }
    }
}

fn refusal(code: &str, details: Option<&str>) -> Refusal {
    // What a script meets comes with the script's own code on some servers.
    let met = |what: &str| code == what || details.is_some_and(|details| details.contains(what));
    if code == "NOSCRIPT" {
        Refusal::Script
    } else if met("WRONGTYPE") {
        Refusal::Type
    } else if ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS"].into_iter().any(met) {
        Refusal::Other(code.to_owned())
    } else if met("OOM") {
        Refusal::Now("OOM".to_owned())
    } else {
        Refusal::Now(code.to_owned())
    }
}

fn late() -> Broken {
    Broken("no answer in time".to_owned())
}

fn broken(error: RedisError) -> Broken {
    Broken(why(&error))
}

/// What went wrong, without what it went wrong with.
fn why(error: &RedisError) -> String {
    if error.is_timeout() {
        late().0
    } else if error.is_connection_refusal() {
        "the connection is refused".to_owned()
    } else if let Some(code) = error.code() {
        code.to_owned()
    } else if error.is_io_error() {
        "the connection is lost".to_owned()
    } else {
        error.category().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn dial(urls: &[&str]) -> Result<Dial, usize> {
        let urls = urls.iter().map(|url| Secret::new(url.as_bytes())).collect();
        Dial::new(&SharedOptions { urls, ..SharedOptions::default() })
    }

    #[test]
    fn addresses_of_both_makes_are_read_and_one_that_is_none_is_numbered() {
        let all = ["redis://a:1", "rediss://u:p@b/1", "valkey://[::1]:5", "valkeys://:p@c:7/0"];
        assert!(dial(&all).is_ok());
        assert_eq!(dial(&["redis://a", "http://b"]).err(), Some(2));
        assert_eq!(dial(&[]).err(), Some(1));
    }

    #[test]
    fn a_refusal_says_whether_to_stay() {
        assert_eq!(refusal("WRONGTYPE", None), Refusal::Type);
        assert_eq!(refusal("ERR", Some("WRONGTYPE Operation against a key")), Refusal::Type);
        assert_eq!(refusal("OOM", None), Refusal::Now("OOM".to_owned()));
        assert_eq!(refusal("READONLY", None), Refusal::Other("READONLY".to_owned()));
        assert_eq!(refusal("READONLY", None).by_cluster(), Refusal::Now("READONLY".to_owned()));
    }
}
