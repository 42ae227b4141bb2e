//! An autopilot is set off: by hand, or by the clock. Whether anything can come of it is decided under
//! the locks of whoever is to do it; if not, the run says why.

use std::sync::Arc;

use crate::{
    db::{Tx, on},
    error::{Error, Result, there},
    events::kinds,
    identity::Insider,
    ids::{AgentId, AutopilotId, IssueId, RunId, SquadId, TriggerId, WorkspaceId},
    protocol::{
        autopilot::{Autopilot, Run},
        event::Actor,
        issue::Issue,
    },
    tasks::{self, Queue, Wish, Work, Worker, Workers, priority_of},
    workspace::{
        autopilots::{
            self, Moment,
            due::{self, Due},
            runs::{self, Outcome},
        },
        issues::{self, Assignee, OfRun},
        projects, squads,
    },
};

/// Sets one off by hand.
pub async fn trigger(tx: &mut Tx, queue: &Arc<Queue>, who: &Insider, id: AutopilotId) -> Result<Run> {
    let planned = autopilots::open(tx, who, id).await?;
    let crew = Crew::hold(tx, &planned).await?;
    let autopilot = autopilots::lock(tx, who, id).await?;
    if autopilot.status != "active" {
        return Err(Error::invalid("autopilot_not_active", "autopilot is not active"));
    }
    require_as_planned(&planned, &autopilot)?;
    let cause = Cause { trigger: None, moment: Moment { zone: None, due: tx.now(), now: tx.now() } };
    run(tx, queue, &autopilot, &crew, cause).await
}

/// Sets one off whose schedule came due; whether there is a run. None if another node was faster, or
/// it is gone or at rest by now.
pub async fn fire(tx: &mut Tx, queue: &Arc<Queue>, due: &Due) -> Result<bool> {
    let Some(planned) = there(autopilots::get(tx, due.workspace_id, due.autopilot_id).await)? else {
        return Ok(false);
    };
    let crew = Crew::hold(tx, &planned).await?;
    let locked = autopilots::lock_for_hub(tx, due.workspace_id, due.autopilot_id).await;
    let Some(autopilot) = there(locked)? else { return Ok(false) };
    require_as_planned(&planned, &autopilot)?;
    let Some(taken) = due::take(tx, due).await? else { return Ok(false) };
    let cause = Cause { trigger: Some(due.id), moment: taken.moment };
    match taken.fault {
        None => run(tx, queue, &autopilot, &crew, cause).await.map(drop)?,
        Some(fault) => fail(tx, &autopilot, &cause, fault).await?,
    }
    Ok(true)
}

/// Lets pass one whose run cannot even be made, and says so in a run that failed.
pub async fn give_up(tx: &mut Tx, due: &Due) -> Result<()> {
    let locked = autopilots::lock_for_hub(tx, due.workspace_id, due.autopilot_id).await;
    let Some(autopilot) = there(locked)? else { return Ok(()) };
    let Some(taken) = due::take(tx, due).await? else { return Ok(()) };
    let fault = taken.fault.unwrap_or_else(|| "the run could not be started".to_owned());
    fail(tx, &autopilot, &Cause { trigger: Some(due.id), moment: taken.moment }, fault).await
}

/// A run that made an issue ends with it.
pub(super) async fn follow_issue(tx: &mut Tx, issue: &Issue) -> Result<()> {
    let outcome = match issue.status.as_str() {
        "done" | "in_review" => Outcome::Completed(None),
        "cancelled" => Outcome::Failed("issue was cancelled"),
        "blocked" => Outcome::Failed("issue is blocked"),
        _ => return Ok(()),
    };
    end_with_issue(tx, issue.workspace_id, issue.id, &outcome).await
}

/// The same of one that is removed.
pub(super) async fn lose_issue(tx: &mut Tx, workspace: WorkspaceId, issue: IssueId) -> Result<()> {
    end_with_issue(tx, workspace, issue, &Outcome::Failed("issue was deleted")).await
}

async fn end_with_issue(tx: &mut Tx, workspace: WorkspaceId, issue: IssueId, outcome: &Outcome<'_>) -> Result<()> {
    for run in runs::end_of_issue(tx, issue, outcome).await? {
        tx.emit(kinds::autopilot_run_ended(workspace, &run));
    }
    Ok(())
}

/// What a run needs is held by what was planned.
fn require_as_planned(planned: &Autopilot, locked: &Autopilot) -> Result<()> {
    let needs = |it: &Autopilot| (it.assignee_type.clone(), it.assignee_id, it.project_id, it.execution_mode.clone());
    if needs(planned) == needs(locked) { Ok(()) } else { Err(Error::PlanChanged) }
}

/// What sets one off: a schedule, or somebody's hand.
struct Cause {
    trigger: Option<TriggerId>,
    moment: Moment,
}

impl Cause {
    /// A run that is over before it begins.
    fn stillborn(&self, autopilot: AutopilotId, status: &str, reason: String) -> Run {
        let now = self.moment.now;
        Run { completed_at: Some(now), failure_reason: Some(reason), ..self.run(autopilot, RunId::fresh(), status) }
    }

    fn run(&self, autopilot: AutopilotId, id: RunId, status: &str) -> Run {
        let now = self.moment.now;
        Run {
            id,
            autopilot_id: autopilot,
            trigger_id: self.trigger,
            source: if self.trigger.is_some() { "schedule" } else { "manual" }.to_owned(),
            status: status.to_owned(),
            issue_id: None,
            task_id: None,
            triggered_at: now,
            completed_at: None,
            failure_reason: None,
            trigger_payload: None,
            result: None,
            created_at: now,
        }
    }
}

/// Who is to do an autopilot's work, locked.
struct Crew {
    workers: Workers,
    /// The squad whose leader does it, if the work is a squad's.
    squad: Option<SquadId>,
    /// The agent, or what is in the way of it beside the agent.
    agent: Result<AgentId, &'static str>,
}

impl Crew {
    /// Locks whoever an autopilot names, and its project if an issue is to lie there; all of them come
    /// before the autopilot itself.
    async fn hold(tx: &mut Tx, planned: &Autopilot) -> Result<Self> {
        let workspace = planned.workspace_id;
        let squad = (planned.assignee_type == "squad").then_some(SquadId(planned.assignee_id));
        let crew = match squad {
            Some(squad) => Self::of_squad(tx, workspace, squad).await?,
            None => {
                let agent = AgentId(planned.assignee_id);
                let workers = tasks::lock_workers(tx, workspace, [agent]).await?;
                Self { workers, squad: None, agent: Ok(agent) }
            }
        };
        if let Some(project) = planned.project_id.filter(|_| makes_issues(planned))
            && !projects::exists(tx, workspace, project).await?
        {
            return Err(Error::PlanChanged);
        }
        Ok(crew)
    }

    async fn of_squad(tx: &mut Tx, workspace: WorkspaceId, squad: SquadId) -> Result<Self> {
        let gone = || Self { workers: Workers::default(), squad: Some(squad), agent: Err("squad no longer exists") };
        let Some(planned) = there(squads::find(tx, workspace, squad).await)? else { return Ok(gone()) };
        let workers = tasks::lock_workers(tx, workspace, [planned.leader_id]).await?;
        let locked: Option<(AgentId, bool)> = on!(
            tx,
            pg "SELECT leader_id, archived_at IS NOT NULL FROM squad WHERE id = $1 AND workspace_id = $2 FOR SHARE",
            lite "SELECT leader_id, archived_at IS NOT NULL FROM squad WHERE id = $1 AND workspace_id = $2",
            |c, sql| sqlx::query_as(sql).bind(squad).bind(workspace).fetch_optional(c)
        )?;
        let Some((leader, archived)) = locked else { return Ok(gone()) };
        if leader != planned.leader_id {
            return Err(Error::PlanChanged);
        }
        let agent = if archived { Err("squad is archived") } else { Ok(leader) };
        Ok(Self { workers, squad: Some(squad), agent })
    }

    /// Whoever does it, or why nobody can.
    fn worker(&self) -> Result<&Worker, &'static str> {
        let worker = self.workers.get(self.agent?).map_err(|_| "agent no longer exists")?;
        match (worker.is_active(), worker.is_ready()) {
            (false, _) if self.squad.is_some() => Err("squad leader is archived"),
            (false, _) => Err("agent is archived"),
            (_, false) => Err("agent runtime is offline"),
            _ => Ok(worker),
        }
    }
}

fn makes_issues(autopilot: &Autopilot) -> bool {
    autopilot.execution_mode != "run_only"
}

async fn run(tx: &mut Tx, queue: &Arc<Queue>, autopilot: &Autopilot, crew: &Crew, cause: Cause) -> Result<Run> {
    let workspace = autopilot.workspace_id;
    let worker = match crew.worker() {
        Ok(worker) => worker,
        Err(obstacle) => {
            let run = cause.stillborn(autopilot.id, "skipped", obstacle.to_owned());
            runs::store(tx, &run, crew.squad).await?;
            tx.emit(kinds::autopilot_run_ended(workspace, &run));
            return Ok(run);
        }
    };
    let id = RunId::fresh();
    let run = if makes_issues(autopilot) {
        let agent = worker.agent.id;
        let wish = OfRun {
            run: id,
            agent,
            assignee: Assignee { kind: autopilot.assignee_type.clone(), id: autopilot.assignee_id },
            project: autopilot.project_id,
            title: cause.moment.title(autopilot),
            description: cause.moment.description(autopilot),
        };
        let issue = issues::create_for_run(tx, workspace, wish).await?;
        tx.emit(kinds::issue_created(Actor::Agent(agent), &issue));
        let work = Work::Issue { issue: issue.id, trigger: None, leads: crew.squad.is_some() };
        enqueue(tx, queue, worker, work, priority_of(&issue.priority)).await?;
        Run { issue_id: Some(issue.id), ..cause.run(autopilot.id, id, "issue_created") }
    } else {
        let task = enqueue(tx, queue, worker, Work::Run(id), 0).await?;
        Run { task_id: Some(task.id), ..cause.run(autopilot.id, id, "running") }
    };
    runs::store(tx, &run, crew.squad).await?;
    tx.emit(kinds::autopilot_run_started(workspace, &run));
    Ok(run)
}

async fn fail(tx: &mut Tx, autopilot: &Autopilot, cause: &Cause, reason: String) -> Result<()> {
    let run = cause.stillborn(autopilot.id, "failed", reason);
    runs::store(tx, &run, None).await?;
    tx.emit(kinds::autopilot_run_ended(autopilot.workspace_id, &run));
    Ok(())
}

async fn enqueue(tx: &mut Tx, queue: &Arc<Queue>, worker: &Worker, work: Work, priority: i32) -> Result<tasks::Row> {
    let wish = Wish { work, priority, initiator: None, force_fresh: false };
    let queued = queue.enqueue(tx, worker, wish).await?;
    queued.ok_or_else(|| Error::internal("there is work already for what was made just now"))
}
