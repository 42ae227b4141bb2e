//! What tests and benches may do to a hub that nobody else may.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    api,
    app::App,
    config::Config,
    db::{Patience, lease},
    error::Result,
    identity::{TaskBinding, task_tokens},
    ids::{AgentId, RuntimeId, TaskId, TaskTokenId, UserId, WorkspaceId},
    protocol::event::{Actor, Event},
    tasks::status::{ALL, OPERATIONS},
};

/// Every route of the table: method, address, and the name of who may call it.
pub fn routes() -> Vec<(String, &'static str, String)> {
    api::table().iter().map(|route| (route.method.to_string(), route.path, format!("{:?}", route.access))).collect()
}

/// What every operation does to a task in every status, as the program has it.
#[derive(Debug, Clone)]
pub struct Transition {
    /// Its name, in small letters.
    pub operation: String,
    /// The status before.
    pub before: &'static str,
    /// Whether it changes anything.
    pub applies: bool,
    /// The status afterwards.
    pub after: &'static str,
    /// What is told of it.
    pub event: Option<&'static str>,
    /// `refused`, `unchanged` or `nothing`, where it changes nothing.
    pub otherwise: String,
}

/// The table of transitions, one row for each operation and status.
pub fn transitions() -> Vec<Transition> {
    let all = OPERATIONS.into_iter().flat_map(|operation| ALL.into_iter().map(move |status| (operation, status)));
    all.map(|(operation, status)| {
        let applies = operation.applies_to(status);
        Transition {
            operation: format!("{operation:?}").to_lowercase(),
            before: status.word(),
            applies,
            after: if applies { operation.after(status).word() } else { status.word() },
            event: operation.event().filter(|_| applies),
            otherwise: format!("{:?}", operation.otherwise()).to_lowercase(),
        }
    })
    .collect()
}

impl Config {
    /// Waits for the database only so long, whatever for, and half as long for its silence.
    pub fn wait_for_database(&mut self, limit: Duration) {
        let (connection, silent) = (limit / 2, limit / 2);
        self.db.patience =
            Patience { connection, read: limit, write: limit, silent_read: silent, silent_write: silent };
    }
}

impl App {
    /// Removes a runtime's lease, as if it had run out.
    pub async fn forget_lease(&self, runtime: Uuid) {
        self.parts().fleet.forget_leases(&[RuntimeId(runtime)]).await;
    }

    /// As if a task had not been heard of for a while.
    pub async fn forget_task_mark(&self, task: Uuid) {
        self.parts().fleet.forget_task(TaskId(task)).await;
    }

    /// As if the hub had been there for long: what nobody reports any more is overdue.
    pub fn trust_silence(&self) {
        self.parts().fleet.trust_silence();
    }

    /// As if the machine had been asleep for so long.
    pub fn oversleep(&self, by: Duration) {
        self.db().clock().oversleep(by);
    }

    /// This node hears no control message from others any more.
    pub fn deafen(&self) {
        self.parts().nodes.deafen();
    }

    /// Forgets everything believed, as after a change by hand in the store.
    pub fn forget_beliefs(&self) {
        self.parts().fleet.forget_all_facts();
        self.parts().credentials.forget_everything();
    }

    /// A task's token, for an agent and a task that nobody has made.
    pub async fn mint_task_token(&self, workspace: Uuid, user: Uuid) -> Result<String> {
        self.mint_agent_token(workspace, user, AgentId::fresh().0).await
    }

    /// A task's token for an agent whose runtime is somebody's.
    pub async fn mint_agent_token(&self, workspace: Uuid, user: Uuid, agent: Uuid) -> Result<String> {
        let binding = TaskBinding {
            token: TaskTokenId::fresh(),
            workspace: WorkspaceId(workspace),
            agent: AgentId(agent),
            task: TaskId::fresh(),
            user: UserId(user),
        };
        self.db().write_global(async move |tx| task_tokens::mint(tx, &binding).await).await
    }

    /// Takes or renews a job's lease in the name of any node.
    pub async fn hold_job(&self, name: &'static str, holder: &str) -> Result<bool> {
        lease::hold(self.db(), name, holder, lease::TTL).await
    }

    /// The n-th statement of a workspace's next transaction fails, the first being 1; the numbering of
    /// its events counts as one.
    pub fn fail_statement(&self, workspace: Uuid, statement: usize) {
        self.db().fail_statement(WorkspaceId(workspace), statement);
    }

    /// Gives all of a node's jobs up.
    pub async fn release_jobs(&self, holder: &str) -> Result<()> {
        lease::release(self.db(), holder).await
    }

    /// Emits `test:event` events in one transaction: for each workspace so many, each with `mark`
    /// and `filler` bytes more in its payload.
    pub async fn emit(&self, counts: &[(Uuid, usize)], mark: &str, filler: usize) -> Result<()> {
        let counts: Vec<(WorkspaceId, usize)> = counts.iter().map(|(id, n)| (WorkspaceId(*id), *n)).collect();
        let first = counts.first().map_or(WorkspaceId(Uuid::nil()), |(workspace, _)| *workspace);
        let (mark, filler) = (mark.to_owned(), "x".repeat(filler));
        self.db()
            .write(first, async move |tx| {
                // In turns, as a flow over several workspaces would.
                let rounds = counts.iter().map(|(_, n)| *n).max().unwrap_or(0);
                for round in 0..rounds {
                    for (workspace, n) in &counts {
                        if round < *n {
                            let payload = serde_json::json!({ "mark": mark, "index": round, "filler": filler });
                            tx.emit(Event::new(*workspace, "test:event", Actor::System, &payload));
                        }
                    }
                }
                Ok(())
            })
            .await
    }
}
