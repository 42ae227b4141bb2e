//! Forms with files, read as they come.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use multer::{Field, Multipart};

use super::extract::{in_time, too_large};
use crate::error::{Error, Result};

/// Bytes of a form at most beside those of its file: heads of parts, other fields, and what the
/// parser holds.
pub const BESIDE: u64 = 1 << 20;
/// Bytes of a field that is no file.
const FIELD: usize = 4 << 10;
const TOO_MUCH: &str = "too much beside the file";

/// A form, part by part.
pub struct Form {
    parts: Multipart<'static>,
    /// Bytes read, less those handed on: all that can be in memory.
    held: Arc<AtomicU64>,
}

/// One part of it.
pub struct Part {
    field: Field<'static>,
    held: Arc<AtomicU64>,
}

impl Form {
    /// The form in a request's body.
    pub fn of(request: Request) -> Result<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(malformed)?;
        let held = Arc::new(AtomicU64::new(0));
        let counted = held.clone();
        let body = request.into_body().into_data_stream().map_err(io::Error::other).and_then(move |bytes| {
            let held = counted.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
            // A head without an end, or a field that nobody asked for, must not fill the memory.
            let outcome = if held > BESIDE { Err(io::Error::other(TOO_MUCH)) } else { Ok(bytes) };
            std::future::ready(outcome)
        });
        Ok(Self { parts: Multipart::new(body, boundary), held })
    }

    /// The next part; what was not read of the one before is passed over.
    pub async fn next(&mut self) -> Result<Option<Part>> {
        let field = in_time(self.parts.next_field()).await?.map_err(malformed)?;
        Ok(field.map(|field| Part { field, held: self.held.clone() }))
    }
}

impl Part {
    /// The field's name.
    pub fn name(&self) -> &str {
        self.field.name().unwrap_or_default()
    }

    /// What its file is called.
    pub fn file_name(&self) -> &str {
        self.field.file_name().unwrap_or_default()
    }

    /// What its file is said to be.
    pub fn content_type(&self) -> Option<&str> {
        self.field.headers().get(header::CONTENT_TYPE)?.to_str().ok()
    }

    /// The next bytes of it.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let chunk = in_time(self.field.chunk()).await?.map_err(malformed)?;
        if let Some(bytes) = &chunk {
            self.held.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(chunk)
    }

    /// All of it, as a short text.
    pub async fn text(mut self) -> Result<String> {
        let mut text = Vec::new();
        while let Some(bytes) = self.field.chunk().await.map_err(malformed)? {
            text.extend_from_slice(&bytes);
            if text.len() > FIELD {
                return Err(too_large());
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Refuses a body that says beforehand that it is too long, before any of it is read.
pub fn check_length(headers: &HeaderMap, most: u64) -> Result<()> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > most) { Err(too_large()) } else { Ok(()) }
}

fn malformed(error: multer::Error) -> Error {
    tracing::debug!(%error, "a form that cannot be read");
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        if error.to_string() == TOO_MUCH {
            return too_large();
        }
        cause = error.source();
    }
    Error::invalid("invalid_form", "invalid multipart form")
}
