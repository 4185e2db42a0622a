//! A client: the engine in its client role over a socket. It blocks; what came while it waited
//! for something else is kept until it is asked for.

mod links;
mod requests;
mod seen;

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lockstep_amqp::{
    AmqpSessionId, ClientSasl, CloseReason, Config, Connection, Time,
    types::{Error, Open},
};

pub use self::{links::Delivery, requests::Response};
use self::{requests::Node, seen::Seen};
use crate::{ANSWER, Deadline, Failed, HOST, Outcome};

/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;

static CONTAINERS: AtomicU32 = AtomicU32::new(0);

/// How a client presents itself.
#[derive(Clone, Debug)]
pub struct Login {
    sasl: Option<ClientSasl>,
    hostname: Option<Box<str>>,
    container_id: Box<str>,
    max_frame_size: u32,
    incoming_window: u32,
}

impl Login {
    fn new(sasl: Option<ClientSasl>) -> Self {
        let number = CONTAINERS.fetch_add(1, Ordering::Relaxed);
        let Config { max_frame_size, incoming_window, .. } = Config::default();
        Self {
            sasl,
            hostname: Some(HOST.into()),
            container_id: format!("raw-{number}").into(),
            max_frame_size,
            incoming_window,
        }
    }

    /// SASL PLAIN: may do what the policy may.
    #[must_use]
    pub fn plain(policy: &str, key: &str) -> Self {
        let response = Bytes::from(format!("\0{policy}\0{key}"));
        Self::new(Some(ClientSasl { mechanism: "PLAIN".into(), initial_response: Some(response) }))
    }

    /// SASL EXTERNAL: whoever the certificate of TLS names; perhaps with a name of its own.
    #[must_use]
    pub fn external(named: &'static [u8]) -> Self {
        let response = Bytes::from_static(named);
        Self::new(Some(ClientSasl { mechanism: "EXTERNAL".into(), initial_response: Some(response) }))
    }

    /// SASL ANONYMOUS: needs tokens.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(Some(ClientSasl { mechanism: "ANONYMOUS".into(), initial_response: Some(Bytes::new()) }))
    }

    /// No SASL layer: needs tokens.
    #[must_use]
    pub fn without_sasl() -> Self {
        Self::new(None)
    }

    /// With a name of its own choice.
    #[must_use]
    pub fn container(self, id: &str) -> Self {
        Self { container_id: id.into(), ..self }
    }

    /// With frames of at most so many bytes, and so many transfers at a time; the connection
    /// fails if the broker sends more.
    #[must_use]
    pub fn bounds(self, max_frame_size: u32, incoming_window: u32) -> Self {
        Self { max_frame_size, incoming_window, ..self }
    }

    /// With another host, by which another namespace is meant.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        Self { hostname: Some(host.into()), ..self }
    }

    /// Without naming a host.
    #[must_use]
    pub fn without_hostname(self) -> Self {
        Self { hostname: None, ..self }
    }
}

/// A connection with one AMQP session begun.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    engine: Connection,
    clock: Deadline,
    seen: Seen,
    session: AmqpSessionId,
    nodes: HashMap<Box<str>, Node>,
    names: u32,
}

impl Client {
    /// Connects and waits for open.
    ///
    /// # Errors
    /// When the broker does not let it in.
    pub fn connect(address: SocketAddr, login: Login) -> Outcome<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ANSWER))?;
        let config = Config {
            container_id: login.container_id,
            hostname: login.hostname,
            idle_time_out_ms: None,
            max_frame_size: login.max_frame_size,
            incoming_window: login.incoming_window,
            strict_windows: true,
            ..Config::default()
        };
        let mut client = Self {
            stream,
            engine: Connection::client(Arc::new(config), login.sasl, Time(0)),
            clock: Deadline::after(Duration::MAX),
            seen: Seen::default(),
            session: AmqpSessionId(0),
            nodes: HashMap::new(),
            names: 0,
        };
        client.until("open", ANSWER, |seen| seen.open.as_ref().map(|_| ()))?;
        client.session = client.begin()?;
        Ok(client)
    }

    /// The broker's open.
    #[must_use]
    pub fn open(&self) -> Option<&Open> {
        self.seen.open.as_ref()
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.clock.passed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Writes all that the engine has to say, in one go.
    ///
    /// # Errors
    /// When the socket fails otherwise than by the broker's leaving, which shows when reading.
    pub fn flush(&mut self) -> Outcome {
        let mut out = Vec::new();
        loop {
            let piece = self.engine.transmit();
            if piece.is_empty() {
                break;
            }
            out.extend_from_slice(piece);
            let count = piece.len();
            self.engine.transmitted(count);
        }
        match self.stream.write_all(&out) {
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Sends bytes that the engine knows nothing of.
    ///
    /// # Errors
    /// As `flush`.
    pub fn inject(&mut self, bytes: &[u8]) -> Outcome {
        self.flush()?;
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads once, for at most `within`.
    fn turn(&mut self, within: Duration) -> Outcome {
        self.flush()?;
        self.stream.set_read_timeout(Some(within.max(Duration::from_millis(1))))?;
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                let now = self.now();
                self.engine.transport_closed(now);
            }
            Ok(count) => {
                let now = self.now();
                self.engine.receive_buffer().extend_from_slice(&buffer[..count]);
                self.engine.process(now);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                let now = self.now();
                self.engine.transport_closed(now);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        self.collect();
        self.flush()
    }

    fn collect(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            if let Some(link) = self.seen.note(event) {
                self.engine.detach(link, None);
            }
        }
    }

    /// Works until `ready` finds something in what came.
    fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut ready: impl FnMut(&mut Seen) -> Option<T>,
    ) -> Outcome<T> {
        let deadline = Deadline::after(within);
        self.collect();
        self.flush()?;
        loop {
            if let Some(value) = ready(&mut self.seen) {
                return Ok(value);
            }
            if let Some(reason) = &self.seen.closed {
                return Err(Failed::new(format!("the connection ended before {what}: {reason:?}")));
            }
            let Some(left) = deadline.left() else {
                return Err(Failed::new(format!("{what} did not come within {within:?}")));
            };
            self.turn(left)?;
        }
    }

    /// Begins a further AMQP session.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn begin(&mut self) -> Outcome<AmqpSessionId> {
        let session = self.engine.begin().ok_or_else(|| Failed::new("no channel is free"))?;
        self.until("begin", ANSWER, |seen| seen.begun.contains(&session).then_some(session))
    }

    /// Ends an AMQP session with its links.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn end(&mut self, session: AmqpSessionId) -> Outcome {
        self.engine.end(session, None);
        self.flush()
    }

    /// The AMQP session that links are made on unless another is named.
    #[must_use]
    pub fn session(&self) -> AmqpSessionId {
        self.session
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seen.closed.is_some()
    }

    /// A name that no link of this connection has.
    fn unique_name(&mut self, what: &str) -> Box<str> {
        self.names += 1;
        format!("{what}-{}", self.names).into()
    }

    /// Closes the connection and waits for the broker's close.
    ///
    /// # Errors
    /// When it does not come.
    pub fn close(self) -> Outcome {
        self.close_with(None)
    }

    /// The same, with an error.
    ///
    /// # Errors
    /// When it does not come.
    pub fn close_with(mut self, error: Option<Error>) -> Outcome {
        self.engine.close(error);
        match self.expect_closed()? {
            CloseReason::Local(_) => Ok(()),
            other => Err(Failed::new(format!("the connection ended by {other:?}"))),
        }
    }

    /// Waits for the end of the connection.
    ///
    /// # Errors
    /// When it does not come.
    pub fn expect_closed(&mut self) -> Outcome<CloseReason> {
        self.until("the end of the connection", ANSWER, |seen| seen.closed.clone())
    }

    /// Listens for `time`, and fails if the connection or one of its links ends or a message
    /// comes.
    ///
    /// # Errors
    /// With what came.
    pub fn nothing_comes(&mut self, time: Duration) -> Outcome {
        let deadline = Deadline::after(time);
        loop {
            self.collect();
            if let Some(what) = self.seen.surprise() {
                return Err(Failed::new(format!("unexpected: {what}")));
            }
            let Some(left) = deadline.left() else { return Ok(()) };
            self.turn(left)?;
        }
    }
}
