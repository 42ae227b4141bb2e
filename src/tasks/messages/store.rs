//! Messages get their places, and are stored.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::types::Json;

use super::{
    super::Voice,
    clean::{Clean, GREATEST_SEQ, batch_digest},
};
use crate::{
    db::{Arm, Tx, exec, on},
    error::{Error, Result},
    ids::{TaskId, WorkspaceId},
    protocol::transcript::TaskMessage,
    time::Timestamp,
};

/// Batches by which one that comes again is known.
const REMEMBERED: usize = 16;

#[derive(sqlx::FromRow)]
struct Stream {
    last_pos: i64,
    last_seq: i64,
    seq_offset: i64,
    batches: String,
}

/// Stores those of a batch's messages that are new; with their places, in order.
pub(super) async fn batch(tx: &mut Tx, voice: &Voice, batch: &[Clean]) -> Result<Vec<TaskMessage>> {
    let mut stream = hold(tx, voice.id, voice.workspace_id).await?;
    let mut batches: Vec<i64> = serde_json::from_str(&stream.batches).unwrap_or_default();
    let digest = batch_digest(batch);
    if batches.contains(&digest) {
        return Ok(Vec::new());
    }
    let known = known(tx, voice.id, &stream, batch).await?;
    let numbered = number(&mut stream, batch, &known)?;
    batches.push(digest);
    let forgotten = batches.len().saturating_sub(REMEMBERED);
    batches.drain(..forgotten);
    let first = stream.last_pos + 1;
    stream.last_pos += numbered.len() as i64;
    stream.batches = serde_json::to_string(&batches).unwrap_or_default();
    let now = tx.now();
    let placed: Vec<(i64, i64, &Clean)> =
        numbered.into_iter().zip(first..).map(|((seq, message), pos)| (pos, seq, message)).collect();
    insert(tx, voice.id, &placed, now).await?;
    keep(tx, voice.id, &stream).await?;
    Ok(placed.into_iter().map(|(pos, seq, message)| wire(voice, pos, seq, message, now)).collect())
}

fn wire(voice: &Voice, pos: i64, seq: i64, message: &Clean, now: Timestamp) -> TaskMessage {
    TaskMessage {
        task_id: voice.id,
        issue_id: voice.issue_id,
        seq,
        pos,
        r#type: message.kind.clone(),
        tool: message.tool.clone(),
        content: message.content.clone(),
        input: message.input.clone().and_then(|json| serde_json::value::RawValue::from_string(json).ok()),
        output: message.output.clone(),
        created_at: now.precise(),
    }
}

/// Numbers the messages that are new: with their daemon's number and the offset, and beyond all that
/// there were once a number comes again with other words. Refused where that leaves what clients count with.
fn number<'b>(stream: &mut Stream, batch: &'b [Clean], known: &HashMap<i64, i64>) -> Result<Vec<(i64, &'b Clean)>> {
    let mut given: HashMap<i64, i64> = HashMap::new();
    let mut numbered = Vec::with_capacity(batch.len());
    for (index, message) in batch.iter().enumerate() {
        let mut seq = message.seq.saturating_add(stream.seq_offset);
        match given.get(&seq).or_else(|| known.get(&seq)) {
            Some(digest) if *digest == message.digest => continue,
            Some(_) => {
                // So far up that whatever comes after it in this batch meets nothing, either.
                let least = batch[index..].iter().map(|message| message.seq).min().unwrap_or(message.seq);
                stream.seq_offset = stream.last_seq + 1 - least;
                seq = message.seq.saturating_add(stream.seq_offset);
            }
            None => {}
        }
        if seq > GREATEST_SEQ {
            return Err(Error::invalid("seq_exhausted", "seq is beyond what a task's messages can be numbered with"));
        }
        given.insert(seq, message.digest);
        stream.last_seq = stream.last_seq.max(seq);
        numbered.push((seq, message));
    }
    Ok(numbered)
}

/// The digests of the stored messages whose numbers a batch may meet. Nothing is read for numbers that
/// are greater than all that there are, as they are while a run goes on.
async fn known(tx: &mut Tx, task: TaskId, stream: &Stream, batch: &[Clean]) -> Result<HashMap<i64, i64>> {
    let numbers = || batch.iter().map(|message| message.seq.saturating_add(stream.seq_offset));
    let (Some(least), Some(greatest)) = (numbers().min(), numbers().max()) else { return Ok(HashMap::new()) };
    if least > stream.last_seq {
        return Ok(HashMap::new());
    }
    let rows: Vec<(i64, i64)> = on!(tx, |c| sqlx::query_as(
        "SELECT seq, digest FROM task_message WHERE task_id = $1 AND seq BETWEEN $2 AND $3"
    )
    .bind(task)
    .bind(least)
    .bind(greatest)
    .fetch_all(c))?;
    Ok(rows.into_iter().collect())
}

/// Where a task's messages are, held until the transaction ends.
async fn hold(tx: &mut Tx, task: TaskId, workspace: WorkspaceId) -> Result<Stream> {
    on!(tx, |c| sqlx::query_as(
        "INSERT INTO task_stream AS held (task_id, workspace_id) VALUES ($1, $2)
         ON CONFLICT (task_id) DO UPDATE SET task_id = held.task_id
         RETURNING last_pos, last_seq, seq_offset, batches"
    )
    .bind(task)
    .bind(workspace)
    .fetch_one(c))
}

async fn keep(tx: &mut Tx, task: TaskId, stream: &Stream) -> Result<()> {
    exec!(tx, |c| sqlx::query(
        "UPDATE task_stream SET last_pos = $2, last_seq = $3, seq_offset = $4, batches = $5 WHERE task_id = $1"
    )
    .bind(task)
    .bind(stream.last_pos)
    .bind(stream.last_seq)
    .bind(stream.seq_offset)
    .bind(&stream.batches))
    .map(drop)
}

/// A row for SQLite's `json_each`. What JSON cannot hold exactly goes as text.
#[derive(Serialize)]
struct Placed<'m>(i64, i64, &'m str, Option<&'m str>, Option<&'m str>, Option<&'m str>, Option<&'m str>, String);

async fn insert(tx: &mut Tx, task: TaskId, placed: &[(i64, i64, &Clean)], now: Timestamp) -> Result<()> {
    if placed.is_empty() {
        return Ok(());
    }
    let done = match tx.arm() {
        Arm::Postgres(c) => {
            let column = |of: fn(&Clean) -> Option<&str>| placed.iter().map(|(.., m)| of(m)).collect::<Vec<_>>();
            sqlx::query(
                "INSERT INTO task_message (task_id, pos, seq, type, tool, content, input, output, digest, created_at)
                 SELECT $1, m.pos, m.seq, m.type, m.tool, m.content, m.input, m.output, m.digest, $10
                 FROM UNNEST($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                             $9::bigint[]) AS m (pos, seq, type, tool, content, input, output, digest)",
            )
            .bind(task)
            .bind(placed.iter().map(|(pos, ..)| *pos).collect::<Vec<_>>())
            .bind(placed.iter().map(|(_, seq, _)| *seq).collect::<Vec<_>>())
            .bind(column(|message| Some(&message.kind)))
            .bind(column(|message| message.tool.as_deref()))
            .bind(column(|message| message.content.as_deref()))
            .bind(column(|message| message.input.as_deref()))
            .bind(column(|message| message.output.as_deref()))
            .bind(placed.iter().map(|(.., message)| message.digest).collect::<Vec<_>>())
            .bind(now)
            .execute(c)
            .await
            .map(drop)
        }
        Arm::Sqlite(c) => {
            let rows: Vec<Placed<'_>> = placed
                .iter()
                .map(|(pos, seq, message)| {
                    let Clean { kind, tool, content, input, output, digest, .. } = message;
                    let (tool, content) = (tool.as_deref(), content.as_deref());
                    Placed(*pos, *seq, kind, tool, content, input.as_deref(), output.as_deref(), digest.to_string())
                })
                .collect();
            sqlx::query(
                "INSERT INTO task_message (task_id, pos, seq, type, tool, content, input, output, digest, created_at)
                 SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                        CAST(value ->> 7 AS integer), $2
                 FROM json_each($3)",
            )
            .bind(task)
            .bind(now)
            .bind(Json(rows))
            .execute(c)
            .await
            .map(drop)
        }
    };
    tx.note(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(seq: i64, digest: i64) -> Clean {
        Clean { seq, kind: "text".into(), tool: None, content: None, input: None, output: None, digest }
    }

    /// Numbers batches one after the other; the numbers of those that were new.
    fn told(batches: &[&[(i64, i64)]]) -> Vec<Vec<i64>> {
        let mut stream = Stream { last_pos: 0, last_seq: 0, seq_offset: 0, batches: String::new() };
        let mut known = HashMap::new();
        let mut all = Vec::new();
        for batch in batches {
            let batch: Vec<Clean> = batch.iter().map(|(seq, digest)| said(*seq, *digest)).collect();
            let numbered = number(&mut stream, &batch, &known).unwrap();
            numbered.iter().for_each(|(seq, message)| {
                assert!(known.insert(*seq, message.digest).is_none(), "{seq} was given twice");
            });
            all.push(numbered.iter().map(|(seq, _)| *seq).collect());
        }
        all
    }

    #[test]
    fn numbers_are_the_daemon_s_until_it_begins_anew() {
        let runs = told(&[&[(1, 10), (2, 20)], &[(3, 30)], &[(1, 11), (2, 21)], &[(3, 31)]]);
        assert_eq!(runs, [vec![1, 2], vec![3], vec![4, 5], vec![6]]);
    }

    #[test]
    fn what_comes_late_or_twice_is_told_once_with_its_own_number() {
        assert_eq!(told(&[&[(3, 30), (4, 40)], &[(1, 10), (2, 20), (3, 30)]]), [vec![3, 4], vec![1, 2]]);
        assert_eq!(told(&[&[(1, 10), (1, 10)], &[(1, 10), (2, 20)]]), [vec![1], vec![2]]);
    }

    #[test]
    fn any_numbers_are_told_apart() {
        assert_eq!(told(&[&[(0, 1), (0, 2), (0, 3)]]), [vec![0, 1, 2]]);
        assert_eq!(told(&[&[(5, 1)], &[(5, 2), (3, 3)], &[(4, 9)]]), [vec![5], vec![8, 6], vec![7]]);
    }
}
