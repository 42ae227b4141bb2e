//! WebSocket frames as the server writes them: unmasked, unfragmented, so a header of two, four or
//! ten bytes and the payload. Encoded once and shared by every socket that gets them.

use bytes::{Bytes, BytesMut};

const FINAL_TEXT: u8 = 0x81;
const FINAL_PING: u8 = 0x89;

/// A ready text frame.
pub fn text(payload: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    header(FINAL_TEXT, payload.len(), |bytes| out.extend_from_slice(bytes));
    out.extend_from_slice(payload.as_bytes());
    out.freeze()
}

/// Appends a text frame.
pub fn push_text(payload: &str, out: &mut Vec<u8>) {
    header(FINAL_TEXT, payload.len(), |bytes| out.extend_from_slice(bytes));
    out.extend_from_slice(payload.as_bytes());
}

/// Appends an empty ping.
pub fn push_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FINAL_PING, 0]);
}

fn header(first: u8, len: usize, mut put: impl FnMut(&[u8])) {
    match len {
        0..=125 => put(&[first, len as u8]),
        126..=0xFFFF => {
            let [high, low] = (len as u16).to_be_bytes();
            put(&[first, 126, high, low]);
        }
        _ => {
            put(&[first, 127]);
            put(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_class_has_its_header() {
        for (len, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xFF, 0xFF]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = text(&"x".repeat(len));
            assert_eq!(&frame[..header.len()], header, "length {len}");
            assert_eq!(frame.len(), header.len() + len);
        }
    }
}
