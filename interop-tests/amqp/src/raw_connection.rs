//! A connection whose frames are made by hand.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    codec::{self, Frame, FrameKind},
    types::{Attach, Begin, Error, Flow, Open, Performative, SaslFrame, SaslInit, Symbol, Transfer},
};

use crate::{ANSWER, Deadline, Failed, HOST, Home, Outcome};

/// Opens the SASL layer.
pub const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
/// Opens AMQP.
pub const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";

/// Largest frame that this end says to take, in bytes.
const MAX_FRAME_SIZE: u32 = 65_536;

/// A socket, and what of its input is not read as frames yet.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    input: BytesMut,
    kind: FrameKind,
}

impl RawConnection {
    /// Connects, and says nothing.
    ///
    /// # Errors
    /// When there is nobody.
    pub fn connect(address: SocketAddr) -> Outcome<Self> {
        Self::over(TcpStream::connect_timeout(&address, ANSWER)?)
    }

    /// Over a socket that is connected already, and says nothing.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn over(stream: TcpStream) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(Self { stream, input: BytesMut::new(), kind: FrameKind::Amqp })
    }

    /// The socket, for a thread of its own.
    ///
    /// # Errors
    /// When it is broken.
    pub fn socket(&self) -> Outcome<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// Sends any bytes. That the broker is gone shows when its answer is read.
    ///
    /// # Errors
    /// When they cannot be written for another reason.
    pub fn write(&mut self, bytes: &[u8]) -> Outcome {
        match self.stream.write_all(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Sends many bytes and takes in the answers meanwhile, so that neither end waits for the
    /// other.
    ///
    /// # Errors
    /// When they cannot be written in time.
    pub fn write_slowly(&mut self, bytes: &[u8]) -> Outcome {
        const PIECE: usize = 16 << 10;
        let deadline = Deadline::after(4 * ANSWER);
        self.stream.set_nonblocking(true)?;
        let result = bytes.chunks(PIECE).try_for_each(|piece| self.write_piece(piece, &deadline));
        self.stream.set_nonblocking(false)?;
        result
    }

    fn write_piece(&mut self, mut piece: &[u8], deadline: &Deadline) -> Outcome {
        while !piece.is_empty() {
            let mut buffer = [0; 64 << 10];
            let read = match self.stream.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error.into()),
            };
            self.input.extend_from_slice(&buffer[..read]);
            match self.stream.write(piece) {
                Ok(count) => piece = &piece[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if deadline.left().is_none() {
                        return Err(Failed::new("the broker takes nothing more"));
                    }
                    std::thread::yield_now();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next bytes, as many as asked for.
    ///
    /// # Errors
    /// When they do not come.
    pub fn read_exact(&mut self, count: usize) -> Outcome<Bytes> {
        let deadline = Deadline::after(ANSWER);
        while self.input.len() < count {
            if !self.read(&deadline, "more bytes")? {
                return Err(Failed::new(format!("the connection ended behind {:?}", self.input)));
            }
        }
        Ok(self.input.split_to(count).freeze())
    }

    /// The next bytes up to and with `end`.
    ///
    /// # Errors
    /// When they do not come.
    pub fn read_until(&mut self, end: &[u8]) -> Outcome<Bytes> {
        let deadline = Deadline::after(ANSWER);
        loop {
            if let Some(at) = self.input.windows(end.len()).position(|part| part == end) {
                return Ok(self.input.split_to(at + end.len()).freeze());
            }
            if !self.read(&deadline, "more bytes")? {
                return Err(Failed::new(format!("the connection ended behind {:?}", self.input)));
            }
        }
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn finish(&mut self) -> Outcome {
        Ok(self.stream.shutdown(std::net::Shutdown::Write)?)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// As `write`.
    pub fn frame(&mut self, channel: u16, performative: Performative) -> Outcome {
        let mut out = BytesMut::new();
        codec::encode_frame(&mut out, channel, &performative);
        self.write(&out)
    }

    /// Sends a transfer with a message.
    ///
    /// # Errors
    /// As `write`.
    pub fn transfer(&mut self, channel: u16, transfer: &Transfer, message: &[u8]) -> Outcome {
        let mut out = BytesMut::new();
        codec::encode_transfer(&mut out, channel, transfer, &[message]);
        self.write(&out)
    }

    /// Sends an attach.
    ///
    /// # Errors
    /// As `write`.
    pub fn attach(&mut self, channel: u16, handle: u32, attach: Attach) -> Outcome {
        self.frame(channel, Performative::Attach(Box::new(Attach { handle, ..attach })))
    }

    /// More input; `false` at its end.
    fn read(&mut self, deadline: &Deadline, what: &str) -> Outcome<bool> {
        let Some(left) = deadline.left() else {
            return Err(Failed::new(format!("{what} did not come in time")));
        };
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = vec![0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Failed::new(format!("{what} did not come in time")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next protocol header.
    ///
    /// # Errors
    /// When it does not come.
    pub fn expect_header(&mut self, header: [u8; 8]) -> Outcome {
        let deadline = Deadline::after(ANSWER);
        while self.input.len() < header.len() {
            if !self.read(&deadline, "a protocol header")? {
                return Err(Failed::new("the connection ended before its protocol header"));
            }
        }
        let came = self.input.split_to(header.len());
        if came[..] == header {
            self.kind = if header == SASL_HEADER { FrameKind::Sasl } else { FrameKind::Amqp };
            return Ok(());
        }
        Err(Failed::new(format!("protocol header {came:?} instead of {header:?}")))
    }

    /// The next frame; `None` when the connection ended instead.
    ///
    /// # Errors
    /// When nothing comes, or no frame.
    pub fn next_frame(&mut self, within: Duration) -> Outcome<Option<Frame>> {
        let deadline = Deadline::after(within);
        loop {
            if let Some(size) = codec::frame_size(&self.input, MAX_FRAME_SIZE)?
                && self.input.len() >= size
            {
                let frame: Bytes = self.input.split_to(size).freeze();
                return Ok(Some(codec::decode_frame(frame, self.kind)?));
            }
            if !self.read(&deadline, "a frame")? {
                return if self.input.is_empty() {
                    Ok(None)
                } else {
                    Err(Failed::new("the connection ended within a frame"))
                };
            }
        }
    }

    /// The first performative that `wanted` takes; others before it are passed over.
    ///
    /// # Errors
    /// When it does not come.
    pub fn expect<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(u16, &Performative, &Bytes) -> Option<T>,
    ) -> Outcome<T> {
        let mut passed = Vec::new();
        loop {
            match self.next_frame(ANSWER) {
                Ok(Some(Frame::Amqp { channel, performative, payload })) => {
                    if let Some(value) = wanted(channel, &performative, &payload) {
                        return Ok(value);
                    }
                    if !matches!(performative, Performative::Transfer(_)) {
                        passed.push(performative);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Err(Failed::new(format!("the connection ended before {what}; {passed:?}")));
                }
                Err(error) => return Err(Failed::new(format!("waiting for {what}: {error}; {passed:?}"))),
            }
        }
    }

    /// The end of the connection: the error of the close that came before it, if one came. Other
    /// frames and headers are passed over.
    ///
    /// # Errors
    /// When the connection does not end.
    pub fn expect_end(&mut self) -> Outcome<Option<Error>> {
        let mut close = None;
        loop {
            if self.input.starts_with(b"AMQP") && self.input.len() >= 8 {
                let header = self.input.split_to(8);
                self.kind = if header[..] == SASL_HEADER { FrameKind::Sasl } else { FrameKind::Amqp };
            }
            let frame = match self.next_frame(ANSWER) {
                // A header is no frame: its size field is out of bounds.
                Err(_) if self.input.starts_with(b"AMQP") && self.input.len() >= 8 => continue,
                frame => frame?,
            };
            match frame {
                Some(Frame::Amqp { performative: Performative::Close(frame), .. }) => close = frame.error,
                Some(_) => {}
                None => return Ok(close),
            }
        }
    }

    /// Whatever comes until the connection ends.
    ///
    /// # Errors
    /// When it does not end.
    pub fn read_to_end(&mut self) -> Outcome<Bytes> {
        let deadline = Deadline::after(ANSWER);
        while self.read(&deadline, "the end of the connection")? {}
        Ok(self.input.split().freeze())
    }

    /// SASL with `mechanism`, up to the broker's outcome.
    ///
    /// # Errors
    /// When the exchange goes another way.
    pub fn sasl(&mut self, mechanism: &str, response: Option<Bytes>, hostname: Option<&str>) -> Outcome<u8> {
        self.write(&SASL_HEADER)?;
        self.expect_header(SASL_HEADER)?;
        let Some(Frame::Sasl(SaslFrame::Mechanisms(offer))) = self.next_frame(ANSWER)? else {
            return Err(Failed::new("sasl-mechanisms did not come"));
        };
        if !offer.sasl_server_mechanisms.contains(&Symbol::new(mechanism)) {
            return Err(Failed::new(format!("{mechanism} is not among {offer:?}")));
        }
        let mut out = BytesMut::new();
        let init = SaslInit {
            mechanism: mechanism.into(),
            initial_response: response,
            hostname: hostname.map(Into::into),
        };
        codec::encode_sasl(&mut out, &SaslFrame::Init(init));
        self.write(&out)?;
        match self.next_frame(ANSWER)? {
            Some(Frame::Sasl(SaslFrame::Outcome(outcome))) => Ok(outcome.code),
            other => Err(Failed::new(format!("{other:?} instead of sasl-outcome"))),
        }
    }

    /// Header and open, and the broker's answers. `idle_time_out` is in milliseconds.
    ///
    /// # Errors
    /// When they do not come.
    pub fn open(&mut self, idle_time_out: Option<u32>) -> Outcome<Open> {
        self.write(&AMQP_HEADER)?;
        self.frame(
            0,
            Performative::Open(Box::new(Open {
                container_id: "raw".into(),
                hostname: Some(HOST.into()),
                max_frame_size: MAX_FRAME_SIZE,
                channel_max: 8_191,
                idle_time_out,
                outgoing_locales: Vec::new(),
                incoming_locales: Vec::new(),
                offered_capabilities: Vec::new(),
                desired_capabilities: Vec::new(),
                properties: None,
            })),
        )?;
        self.expect_header(AMQP_HEADER)?;
        self.expect("open", |_, performative, _| match performative {
            Performative::Open(open) => Some((**open).clone()),
            _ => None,
        })
    }

    /// Begins an AMQP session; gives the broker's channel.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn begin(&mut self, channel: u16) -> Outcome<u16> {
        self.frame(
            channel,
            Performative::Begin(Box::new(Begin {
                remote_channel: None,
                next_outgoing_id: 1,
                incoming_window: 5_000,
                outgoing_window: 5_000,
                handle_max: 262_143,
                offered_capabilities: Vec::new(),
                desired_capabilities: Vec::new(),
                properties: None,
            })),
        )?;
        self.expect("begin", |theirs, performative, _| match performative {
            Performative::Begin(begin) if begin.remote_channel == Some(channel) => Some(theirs),
            _ => None,
        })
    }

    /// SASL PLAIN with the policy that may do everything, open, and channel 0 begun.
    ///
    /// # Errors
    /// When the broker does not answer as it should.
    pub fn handshake(&mut self, home: &Home) -> Outcome {
        self.handshake_with(home, None)
    }

    /// The same, with the milliseconds after which this end gives up on a silent broker.
    ///
    /// # Errors
    /// When the broker does not answer as it should.
    pub fn handshake_with(&mut self, home: &Home, idle_time_out: Option<u32>) -> Outcome {
        let response = Bytes::from(format!("\0root\0{}", home.key("root")));
        match self.sasl("PLAIN", Some(response), Some(HOST))? {
            0 => {}
            code => return Err(Failed::new(format!("sasl-outcome {code}"))),
        }
        self.open(idle_time_out)?;
        self.begin(0)?;
        Ok(())
    }

    /// Grants credit on a link.
    ///
    /// # Errors
    /// As `write`.
    pub fn credit(
        &mut self,
        channel: u16,
        handle: u32,
        delivery_count: u32,
        credit: u32,
        drain: bool,
    ) -> Outcome {
        self.frame(
            channel,
            Performative::Flow(Flow {
                next_incoming_id: Some(0),
                incoming_window: u32::MAX >> 1,
                next_outgoing_id: 1,
                outgoing_window: 2_048,
                handle: Some(handle),
                delivery_count: Some(delivery_count),
                link_credit: Some(credit),
                available: None,
                drain,
                echo: false,
            }),
        )
    }
}
