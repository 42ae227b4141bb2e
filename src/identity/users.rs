//! People.

use serde_json::Value;
use sqlx::types::Json;

use crate::{
    db::{Session, Tx, exec, on},
    error::{Error, Result},
    ids::UserId,
    protocol::people::{PatchMe, User},
    time::Timestamp,
};

/// Languages the clients have texts in.
const LANGUAGES: [&str; 4] = ["en", "zh-Hans", "ko", "ja"];
/// Code points of a description at most.
const DESCRIPTION: usize = 2000;

#[derive(sqlx::FromRow)]
struct Row {
    id: UserId,
    name: String,
    email: String,
    avatar_url: Option<String>,
    language: Option<String>,
    timezone: Option<String>,
    starter_content_state: Option<String>,
    onboarded_at: Option<Timestamp>,
    onboarding_questionnaire: Json<Value>,
    profile_description: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Row> for User {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            email: row.email,
            avatar_url: row.avatar_url,
            language: row.language,
            timezone: row.timezone,
            starter_content_state: row.starter_content_state,
            onboarded_at: row.onboarded_at,
            onboarding_questionnaire: row.onboarding_questionnaire.0,
            profile_description: row.profile_description,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A person by id.
pub async fn get(db: &mut Session, user: UserId) -> Result<User> {
    let row: Option<Row> =
        on!(db, |c| sqlx::query_as("SELECT * FROM users WHERE id = $1").bind(user).fetch_optional(c))?;
    row.map(User::from).ok_or_else(|| Error::not_found("user_not_found", "user not found"))
}

/// A person's id by address.
pub async fn find(db: &mut Session, email: &str) -> Result<Option<UserId>> {
    let email = canonical(email);
    on!(db, |c| sqlx::query_scalar("SELECT id FROM users WHERE email = $1").bind(&email).fetch_optional(c))
}

/// Makes a person. They count as onboarded: whoever runs a hub of their own is past the tour.
pub async fn create(tx: &mut Tx, email: &str, name: &str) -> Result<UserId> {
    let email = canonical(email);
    let name = name.trim();
    if !email.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty()) {
        return Err(Error::invalid("invalid_email", "invalid email"));
    }
    if name.is_empty() {
        return Err(Error::invalid("name_required", "name is required"));
    }
    let now = tx.now();
    let id: Option<UserId> = on!(tx, |c| sqlx::query_scalar(
        "INSERT INTO users (id, name, email, onboarded_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $4, $4) ON CONFLICT (email) DO NOTHING RETURNING id"
    )
    .bind(UserId::fresh())
    .bind(name)
    .bind(&email)
    .bind(now)
    .fetch_optional(c))?;
    id.ok_or_else(|| Error::conflict("email_taken", "a user with this email already exists"))
}

/// Makes a person of an address alone, named after its first part.
pub async fn invite(tx: &mut Tx, email: &str) -> Result<UserId> {
    let name = email.trim().split('@').next().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(Error::invalid("invalid_email", "invalid email"));
    }
    match create(tx, email, &name).await {
        // Somebody else invited them in between.
        Err(Error::Refused(refusal)) if refusal.code == "email_taken" => {
            find(tx, email).await?.ok_or_else(|| Error::internal("an address is taken by nobody"))
        }
        created => created,
    }
}

/// Applies a person's own changes.
pub async fn patch(tx: &mut Tx, user: UserId, change: &PatchMe) -> Result<User> {
    let name = change.name.as_deref().map(str::trim);
    if name == Some("") {
        return Err(Error::invalid("name_required", "name is required"));
    }
    if change.profile_description.as_ref().is_some_and(|text| text.chars().count() > DESCRIPTION) {
        return Err(Error::invalid("invalid_description", "profile_description is too long"));
    }
    if change.language.as_ref().is_some_and(|language| !LANGUAGES.contains(&language.as_str())) {
        return Err(Error::invalid("invalid_language", "invalid language"));
    }
    if change.timezone.as_ref().is_some_and(|zone| !zone.is_empty() && jiff::tz::TimeZone::get(zone).is_err()) {
        return Err(Error::invalid("invalid_timezone", "invalid timezone"));
    }
    let now = tx.now();
    exec!(tx, |c| sqlx::query(
        "UPDATE users SET
             name = COALESCE($2, name),
             avatar_url = COALESCE($3, avatar_url),
             language = COALESCE($4, language),
             profile_description = COALESCE($5, profile_description),
             timezone = CASE WHEN $6 = '' THEN NULL ELSE COALESCE($6, timezone) END,
             updated_at = $7
         WHERE id = $1 AND (
             COALESCE($2, name) <> name
             OR COALESCE($3, avatar_url) IS DISTINCT FROM avatar_url
             OR COALESCE($4, language) IS DISTINCT FROM language
             OR COALESCE($5, profile_description) <> profile_description
             OR CASE WHEN $6 = '' THEN NULL ELSE COALESCE($6, timezone) END IS DISTINCT FROM timezone)"
    )
    .bind(user)
    .bind(name)
    .bind(&change.avatar_url)
    .bind(&change.language)
    .bind(&change.profile_description)
    .bind(&change.timezone)
    .bind(now))?;
    get(tx, user).await
}

fn canonical(email: &str) -> String {
    email.trim().to_lowercase()
}
