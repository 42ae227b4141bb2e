//! The files of a skill. A change of them is a change of the skill.

use std::collections::BTreeMap;

use super::{lock, path, touch};
use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    identity::Insider,
    ids::{SkillFileId, SkillId},
    protocol::skill::{SkillFile, WishedFile},
    time::Timestamp,
};

/// Files of one skill at most.
const MOST: usize = 500;

#[derive(sqlx::FromRow)]
struct Row {
    id: SkillFileId,
    skill_id: SkillId,
    path: String,
    content: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Row> for SkillFile {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            skill_id: row.skill_id,
            path: row.path,
            content: row.content,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A skill's files, by path.
pub async fn list(db: &mut Session, skill: SkillId) -> Result<Vec<SkillFile>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as("SELECT * FROM skill_file WHERE skill_id = $1 ORDER BY path")
        .bind(skill)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(SkillFile::from).collect())
}

/// Stores one file, new or instead of what is at its path.
pub async fn put(tx: &mut Tx, who: &Insider, skill: SkillId, wish: &WishedFile) -> Result<SkillFile> {
    lock(tx, who, skill).await?;
    let path = path::check(&wish.path)?;
    if path::is_main(path) {
        return Err(Error::invalid("main_file", "SKILL.md is the skill's content, not one of its files"));
    }
    match find(tx, skill, path).await? {
        Some(same) if same.content == wish.content => return Ok(same),
        Some(_) => {}
        None => make_room(tx, skill, path).await?,
    }
    store(tx, skill, path, &wish.content).await?;
    touch(tx, who, skill).await?;
    find(tx, skill, path).await?.ok_or_else(|| Error::internal("a file just stored is gone"))
}

/// Refuses a new file that the skill cannot have beside its others.
async fn make_room(db: &mut Session, skill: SkillId, path: &str) -> Result<()> {
    let others: Vec<String> =
        on!(db, |c| sqlx::query_scalar("SELECT path FROM skill_file WHERE skill_id = $1").bind(skill).fetch_all(c))?;
    if others.len() >= MOST {
        return Err(too_many());
    }
    path::check_together(others.iter().map(String::as_str).chain([path]))
}

/// Removes one file; it is no error if there is none.
pub async fn delete(tx: &mut Tx, who: &Insider, skill: SkillId, file: SkillFileId) -> Result<()> {
    lock(tx, who, skill).await?;
    let gone =
        exec!(tx, |c| sqlx::query("DELETE FROM skill_file WHERE id = $1 AND skill_id = $2").bind(file).bind(skill))?;
    if gone > 0 {
        touch(tx, who, skill).await?;
    }
    Ok(())
}

/// Makes these the skill's files, without a word. What is the same stays as it is; of two at one path the last counts;
/// the skill's own text among them is skipped.
pub(super) async fn replace(tx: &mut Tx, skill: SkillId, wished: &[WishedFile]) -> Result<()> {
    if wished.len() > MOST {
        return Err(too_many());
    }
    let mut files = BTreeMap::new();
    for file in wished {
        let path = path::check(&file.path)?;
        if !path::is_main(path) {
            files.insert(path, file.content.as_str());
        }
    }
    path::check_together(files.keys().copied())?;
    for old in list(tx, skill).await? {
        match files.get(old.path.as_str()) {
            Some(content) if *content == old.content => drop(files.remove(old.path.as_str())),
            Some(_) => {}
            None => drop(exec!(tx, |c| sqlx::query("DELETE FROM skill_file WHERE id = $1").bind(old.id))?),
        }
    }
    for (path, content) in files {
        store(tx, skill, path, content).await?;
    }
    Ok(())
}

fn too_many() -> Error {
    Error::invalid("too_many_files", format!("a skill has at most {MOST} files"))
}

async fn store(tx: &mut Tx, skill: SkillId, path: &str, content: &str) -> Result<()> {
    let now = tx.now();
    exec!(tx, |c| sqlx::query(
        "INSERT INTO skill_file (id, skill_id, path, content, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)
         ON CONFLICT (skill_id, path) DO UPDATE SET content = excluded.content, updated_at = excluded.updated_at"
    )
    .bind(SkillFileId::fresh())
    .bind(skill)
    .bind(path)
    .bind(content)
    .bind(now))
    .map(drop)
}

async fn find(db: &mut Session, skill: SkillId, path: &str) -> Result<Option<SkillFile>> {
    let row: Option<Row> = on!(db, |c| sqlx::query_as("SELECT * FROM skill_file WHERE skill_id = $1 AND path = $2")
        .bind(skill)
        .bind(path)
        .fetch_optional(c))?;
    Ok(row.map(SkillFile::from))
}
