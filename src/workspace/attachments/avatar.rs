//! Files as people's and agents' pictures. A picture is seen wherever its owner is, so what is shown
//! as one is the whole workspace's to read, and stays until somebody removes it.

use crate::{
    db::{Tx, exec},
    error::Result,
    identity::Insider,
    ids::AttachmentId,
};

/// Lets the workspace see the file at `url`, if it is one of the caller's own that belongs to nothing.
/// Any other address is nothing to do with the hub's files, and no mistake.
pub async fn show_as_avatar(tx: &mut Tx, who: &Insider, url: Option<&str>) -> Result<()> {
    let Some(attachment) = url.and_then(in_address) else { return Ok(()) };
    let uploader = who.actor();
    exec!(tx, |c| sqlx::query(
        "UPDATE attachment SET shown_as_avatar = true, sweep_after = NULL
         WHERE id = $1 AND workspace_id = $2 AND uploader_type = $3 AND uploader_id = $4
           AND complete AND NOT shown_as_avatar
           AND issue_id IS NULL AND comment_id IS NULL AND chat_session_id IS NULL AND chat_message_id IS NULL"
    )
    .bind(attachment)
    .bind(who.workspace)
    .bind(uploader.kind())
    .bind(uploader.id()))
    .map(drop)
}

/// The attachment whose content an address shows. Whatever origin it begins with: at another hub
/// nobody has the same id.
pub fn in_address(url: &str) -> Option<AttachmentId> {
    let path = match url.split_once("://") {
        Some((_, rest)) => &rest[rest.find('/')?..],
        None => url,
    };
    path.strip_prefix("/api/attachments/")?.strip_suffix("/content")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_address_under_any_origin() {
        let id = AttachmentId::fresh();
        for origin in ["", "http://localhost:8080", "https://hub.example.com"] {
            assert_eq!(in_address(&format!("{origin}/api/attachments/{id}/content")), Some(id), "{origin}");
        }
        for other in [
            String::new(),
            "https://example.com/a.png".to_owned(),
            "https://example.com".to_owned(),
            format!("/api/attachments/{id}"),
            format!("/x/api/attachments/{id}/content"),
            "/api/attachments/x/content".to_owned(),
            "data:image/png;base64,AA==".to_owned(),
        ] {
            assert_eq!(in_address(&other), None, "{other}");
        }
    }
}
