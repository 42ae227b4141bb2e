//! What the issue of a run says.

use super::{super::words, schedule::in_zone};
use crate::{protocol::autopilot::Autopilot, time::Timestamp};

/// When a run is, and where.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The zone whose clocks are read; none stands for UTC.
    pub zone: Option<String>,
    /// When it was to be: what is dated by it.
    pub due: Timestamp,
    /// When it is.
    pub now: Timestamp,
}

impl Moment {
    /// The title: the autopilot's template, filled in, or its own title.
    pub fn title(&self, autopilot: &Autopilot) -> String {
        let date = in_zone(self.due, self.zone.as_deref()).strftime("%Y-%m-%d").to_string();
        let filled = autopilot.issue_title_template.as_deref().unwrap_or_default().replace("{{date}}", &date);
        let filled = words::cut_title(&filled);
        if filled.is_empty() { autopilot.title.clone() } else { filled.to_owned() }
    }

    /// The description: the autopilot's, and a line that says when the run is.
    pub fn description(&self, autopilot: &Autopilot) -> String {
        let local = in_zone(self.now, self.zone.as_deref()).strftime("%Y-%m-%d %H:%M");
        let line = format!("Triggered at {local} ({})", self.zone.as_deref().unwrap_or("UTC"));
        match autopilot.description.as_deref().map(str::trim_end).filter(|text| !text.is_empty()) {
            Some(text) => format!("{text}\n\n{line}"),
            None => line,
        }
    }
}
