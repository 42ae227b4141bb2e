//! A task's tokens end with it, on every node.

use std::sync::Arc;

use super::Queue;
use crate::{db::Tx, error::Result, events::Control, identity::task_tokens, ids::TaskId};

/// Tokens of one message between nodes at most.
const TOGETHER: usize = 500;

/// Removes the tokens of tasks.
pub(super) async fn revoke(queue: &Arc<Queue>, tx: &mut Tx, tasks: &[TaskId]) -> Result<()> {
    let tokens = task_tokens::revoke(tx, tasks).await?;
    for tokens in tokens.chunks(TOGETHER) {
        let (queue, tokens) = (queue.clone(), tokens.iter().map(|token| token.0).collect());
        tx.after_commit(move || queue.nodes.tell(Control::TokensChanged { tokens }));
    }
    Ok(())
}
