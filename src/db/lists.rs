//! Lists as SQLite's `json_each` takes them: ids as hex, since JSON has no bytes. PostgreSQL binds
//! arrays.

use sqlx::types::Json;
use uuid::Uuid;

use crate::time::Timestamp;

/// For `SELECT unhex(value) FROM json_each($1)`.
pub fn ids(ids: impl IntoIterator<Item = impl Into<Uuid>>) -> Json<Vec<String>> {
    Json(ids.into_iter().map(hex).collect())
}

/// For `SELECT unhex(value ->> 0) AS id, value ->> 1 AS at FROM json_each($1)`.
pub fn timed(ids: &[impl Into<Uuid> + Copy], times: &[Timestamp]) -> Json<Vec<(String, i64)>> {
    Json(ids.iter().zip(times).map(|(id, at)| (hex(*id), at.0)).collect())
}

/// The same with two times.
pub fn timed_twice(
    ids: &[impl Into<Uuid> + Copy],
    first: &[Timestamp],
    second: &[Timestamp],
) -> Json<Vec<(String, i64, i64)>> {
    Json(ids.iter().zip(first.iter().zip(second)).map(|(id, (a, b))| (hex(*id), a.0, b.0)).collect())
}

fn hex(id: impl Into<Uuid>) -> String {
    id.into().simple().to_string()
}
