//! Stretches of the log as ready frames, for sockets that are behind their ring. Pages are cut at
//! fixed multiples, read once for everybody who needs them, and kept for a moment.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::log;
use crate::{db::Db, error::Result, hub::Frame, ids::WorkspaceId, protocol::event::Reader};

/// Events per page.
const PAGE: u64 = 256;
/// Bytes of pages kept per lane.
const KEPT_BYTES: usize = 16 << 20;
/// An unused page is dropped after this long.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// A stretch of the log.
pub struct Page {
    frames: Vec<Frame>,
    bytes: usize,
}

impl Page {
    /// Whether the event after `position` is here. A page of the log that should have it and does
    /// not means that the position is lost.
    pub fn continues(&self, position: u64) -> bool {
        self.frames.binary_search_by_key(&(position + 1), |frame| frame.seq).is_ok()
    }

    /// Appends what lies beyond `position` and not beyond `upto`, within the limits, to `out`.
    /// Returns the new position; the same one when the page has nothing more for it.
    pub fn copy(
        &self,
        position: u64,
        (upto, reader): (u64, Reader),
        max_frames: usize,
        max_bytes: usize,
        out: &mut Vec<u8>,
    ) -> u64 {
        let mut reached = position;
        let start = out.len();
        let from = self.frames.partition_point(|frame| frame.seq <= position);
        for frame in self.frames[from..].iter().take(max_frames) {
            let wire = frame.wire_for(reader);
            let full = out.len() > start && out.len() - start + wire.len() > max_bytes;
            if frame.seq != reached + 1 || frame.seq > upto || full {
                break;
            }
            out.extend_from_slice(wire);
            reached = frame.seq;
        }
        reached
    }
}

/// The pages of one lane.
#[derive(Default)]
pub(super) struct Pages {
    kept: Mutex<Kept>,
    /// One reader at a time: the second finds the first one's page.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    pages: VecDeque<(u64, Arc<Page>)>,
    bytes: usize,
    used: Option<Instant>,
}

impl Pages {
    /// The page that holds the event after `position`; one without it if the log has none.
    pub(super) async fn after(&self, db: &Db, workspace: WorkspaceId, position: u64) -> Result<Arc<Page>> {
        let number = position / PAGE;
        if let Some(page) = self.find(number, position) {
            return Ok(page);
        }
        let _reading = self.reading.lock().await;
        if let Some(page) = self.find(number, position) {
            return Ok(page);
        }
        let frames =
            db.read(async move |db| log::frames(db, workspace, number * PAGE, (number + 1) * PAGE).await).await?;
        let page = Arc::new(Page { bytes: frames.iter().map(Frame::size).sum(), frames });
        self.keep(number, &page);
        Ok(page)
    }

    /// Drops pages that nobody asked for lately.
    pub(super) fn tidy(&self, now: Instant) {
        let mut kept = self.kept.lock();
        if kept.used.is_some_and(|used| now.saturating_duration_since(used) > KEPT_FOR) {
            *kept = Kept::default();
        }
    }

    /// A kept page, if it is any good for the position: the last one of the log still grows.
    fn find(&self, number: u64, position: u64) -> Option<Arc<Page>> {
        let mut kept = self.kept.lock();
        kept.used = Some(Instant::now());
        let page = kept.pages.iter().find(|(held, _)| *held == number).map(|(_, page)| page.clone());
        page.filter(|page| page.continues(position))
    }

    fn keep(&self, number: u64, page: &Arc<Page>) {
        let mut kept = self.kept.lock();
        if let Some(index) = kept.pages.iter().position(|(held, _)| *held == number)
            && let Some((_, shorter)) = kept.pages.remove(index)
        {
            kept.bytes -= shorter.bytes;
        }
        kept.bytes += page.bytes;
        kept.pages.push_back((number, page.clone()));
        while kept.bytes > KEPT_BYTES && kept.pages.len() > 1 {
            if let Some((_, old)) = kept.pages.pop_front() {
                kept.bytes -= old.bytes;
            }
        }
    }
}
