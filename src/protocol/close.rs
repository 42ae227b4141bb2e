//! The close codes. 40xx: reconnect. 45xx: do not, without a person or a new token.

/// RFC 6455: the peer broke the framing.
pub const PROTOCOL_ERROR: u16 = 1002;
/// RFC 6455: a text message that is not UTF-8.
pub const INVALID_TEXT: u16 = 1007;
/// RFC 6455: more bytes than the socket takes.
pub const TOO_BIG: u16 = 1009;
/// The server shuts down in order; the reason says `retry_after_ms=N`.
pub const DRAINING: u16 = 4001;
/// The peer accepted no byte for too long.
pub const SLOW_CONSUMER: u16 = 4002;
/// Nothing was heard from the peer for too long.
pub const SILENT: u16 = 4003;
/// The person has as many sockets as one may have.
pub const TOO_MANY: u16 = 4004;
/// The position cannot be continued from; refetch.
pub const POSITION_LOST: u16 = 4005;
/// No valid credential in time.
pub const UNAUTHENTICATED: u16 = 4501;
/// The membership or the token that the socket rested on is gone.
pub const REVOKED: u16 = 4502;
/// The workspace is gone.
pub const WORKSPACE_GONE: u16 = 4503;
/// Frames that make no sense.
pub const VIOLATION: u16 = 4504;
