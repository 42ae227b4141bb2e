//! What an end leaves on the issue that the task was for.

use super::held::Held;
use crate::{
    db::{Session, Tx, on},
    error::Result,
    ids::IssueId,
    protocol::event::Actor,
    tasks::{Row, status::active},
    workspace::{comments, issues, squads::evaluations},
};

/// An answer that says no more than that it is done: whoever asked sees that without it.
const DONE: &[&str] = &["done", "готово", "готова", "сделано", "完成", "完了"];

/// An agent that has said nothing while it worked says what it put out; and the issue was worked on.
pub(super) async fn completed(tx: &mut Tx, held: &Held, row: &Row, output: &str) -> Result<()> {
    let Some(issue) = held.issue_of(row) else { return Ok(()) };
    let said = decoded(output);
    let no_news = said.trim().is_empty() || (row.trigger_comment_id.is_some() && is_just_done(&said));
    if !(no_news || evaluations::is_no_action(tx, row.id).await? || has_spoken(tx, row, issue.id).await?) {
        let end =
            comments::OfTask { agent: row.agent_id, task: row.id, answers: row.trigger_comment_id, kind: "comment" };
        comments::create_for_task(tx, issue, &end, &said).await?;
    }
    issues::note_executed(tx, issue.id).await
}

/// Why nothing came of it is said in the agent's name.
pub(super) async fn failed(tx: &mut Tx, held: &Held, row: &Row) -> Result<()> {
    let error = row.error.as_deref().unwrap_or_default();
    let (Some(issue), false) = (held.issue_of(row), error.trim().is_empty()) else { return Ok(()) };
    let end = comments::OfTask { agent: row.agent_id, task: row.id, answers: row.trigger_comment_id, kind: "system" };
    comments::create_for_task(tx, issue, &end, error).await
}

/// Nobody works on it any more, though nobody has finished it: it is to be done again.
pub(super) async fn reset(tx: &mut Tx, issue: IssueId, held: &Held) -> Result<()> {
    let Some(issue) = held.issues.get(&issue).filter(|issue| issue.status == "in_progress") else { return Ok(()) };
    issues::set_status(tx, Actor::System, issue.workspace_id, issue.id, "todo").await
}

/// Whether anything is to be done for an issue.
pub(super) async fn is_active(db: &mut Session, issue: IssueId) -> Result<bool> {
    on!(db, |c| sqlx::query_scalar(concat!(
        "SELECT EXISTS (SELECT 1 FROM task WHERE issue_id = $1 AND status IN ",
        active!(),
        ")"
    ))
    .bind(issue)
    .fetch_one(c))
}

async fn has_spoken(db: &mut Session, row: &Row, issue: IssueId) -> Result<bool> {
    let since = row.started_at.unwrap_or(row.created_at);
    comments::has_spoken(db, issue, row.agent_id, since).await
}

/// An output that is one line all through has its line breaks written out.
fn decoded(output: &str) -> String {
    if output.contains('\n') { output.to_owned() } else { output.replace(r"\n", "\n") }
}

fn is_just_done(said: &str) -> bool {
    let word = said.trim_matches(|c: char| c.is_whitespace() || ".!！。…".contains(c)).to_lowercase();
    DONE.contains(&word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_only_says_done_is_no_news() {
        for done in ["done", " Done. ", "Готово!", "готова…", "Сделано", "完成！", "完了。", "DONE!!!"]
        {
            assert!(is_just_done(done), "{done}");
        }
        for news in ["done, see PR", "好的", "I fixed the issue", "", "undone", "..."] {
            assert!(!is_just_done(news), "{news}");
        }
    }

    #[test]
    fn line_breaks_that_are_written_out_are_read() {
        assert_eq!(decoded(r"a\nb"), "a\nb");
        assert_eq!(decoded("C:\\new\nline"), "C:\\new\nline", "whoever breaks lines means what it writes");
    }
}
