//! Between the parser and the socket: bytes in memory, and what the parser's refusals mean.

use std::io::{self, Read, Write};

use tungstenite::Error as WsError;

use super::Ended;
use crate::{hub::Close, protocol::close};

/// The goodbye for what the parser refused.
pub(super) fn ended_by(error: &WsError) -> Ended {
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => Ended::ByPeer(None),
        WsError::Capacity(_) => Ended::ByUs(Close::new(close::TOO_BIG, "message too big")),
        WsError::Utf8(_) => Ended::ByUs(Close::new(close::INVALID_TEXT, "invalid UTF-8")),
        WsError::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            Ended::Gone("reset".into())
        }
        WsError::Protocol(_) => Ended::ByUs(Close::new(close::PROTOCOL_ERROR, "protocol error")),
        other => Ended::Gone(other.to_string()),
    }
}

/// What tungstenite takes for a stream: reads end with "would block", writes always fit.
pub(super) struct Tap<'i, 'o> {
    pub(super) input: &'i [u8],
    pub(super) output: &'o mut Vec<u8>,
}

impl Read for Tap<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Tap<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
