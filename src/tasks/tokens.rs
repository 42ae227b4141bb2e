//! A task's tokens end with it, on every node.

use std::sync::Arc;

use super::Queue;
use crate::{db::Tx, error::Result, events::Control, identity::task_tokens, ids::TaskId};

/// Removes the tokens of tasks.
pub(super) async fn revoke(queue: &Arc<Queue>, tx: &mut Tx, tasks: &[TaskId]) -> Result<()> {
    for token in task_tokens::revoke(tx, tasks).await? {
        let queue = queue.clone();
        tx.after_commit(move || queue.nodes.tell(Control::TokenEnded { token: token.0 }));
    }
    Ok(())
}
