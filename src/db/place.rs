//! Where a node runs. A node that crashed leaves its lease behind; the next run at the same place
//! knows by it that the lease is a dead one's.

use std::path::Path;

use uuid::Uuid;

use super::{DataDirLock, open};
use crate::error::{Error, Result};

/// The name of the file in the data folder that says which place this is.
const FILE: &str = "node-id";

/// A data folder that is this node's alone, or nowhere in particular.
pub struct Place {
    name: String,
    /// While it is held, no other run is at this place.
    _lock: Option<DataDirLock>,
}

impl Place {
    /// The place that the data folder is. A node whose folder cannot be had runs all the same: after
    /// a crash its lease has to run out.
    pub fn of(folder: &Path) -> Self {
        let taken = open::lock_data_dir(folder).and_then(|lock| Ok((name_of(folder)?, lock)));
        match taken {
            Ok((name, lock)) => Self { name, _lock: Some(lock) },
            Err(error) => {
                tracing::warn!(%error, "without a data folder of its own this node may have to wait after a crash");
                Self { name: Uuid::new_v4().to_string(), _lock: None }
            }
        }
    }

    /// What the place is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Reads the folder's name, or gives it one. What a crash left half-written is no name.
fn name_of(folder: &Path) -> Result<String> {
    let path = folder.join(FILE);
    let known = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<Uuid>().ok());
    if let Some(name) = known {
        return Ok(name.to_string());
    }
    let name = Uuid::new_v4().to_string();
    std::fs::write(&path, format!("{name}\n"))
        .map_err(|error| Error::internal(format_args!("{}: {error}", path.display())))?;
    Ok(name)
}
