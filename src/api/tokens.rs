//! `/api/tokens`.

use axum::{extract::State, response::Response};

use super::{
    Api,
    answer::{created, nothing, ok},
    extract::{self, Body, Caller, Segment},
};
use crate::{
    error::{Error, Result},
    events::Control,
    flows::revoke,
    identity::{Identity, Proof, tokens},
    protocol::people::CreateToken,
};

/// The caller's tokens.
pub async fn list(State(api): State<Api>, caller: Caller) -> Result<Response> {
    let user = caller.user();
    api.db.read(async move |db| tokens::list(db, user).await).await.map(ok)
}

/// A new one; the only answer that has its secret.
pub async fn create(State(api): State<Api>, caller: Caller, Body(wish): Body<CreateToken>) -> Result<Response> {
    let user = caller.user();
    api.db
        .write_global(async move |tx| tokens::create(tx, user, &wish.name, wish.expires_in_days).await)
        .await
        .map(created)
}

/// Ends one; also when there is none.
pub async fn revoke(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let token = extract::id(&segment, "token id")?;
    let user = caller.user();
    let nodes = api.nodes.clone();
    api.db.write_global(async move |tx| revoke::revoke_token(tx, &nodes, user, token).await).await?;
    Ok(nothing())
}

/// Extends the token that the call was made with.
pub async fn renew(State(api): State<Api>, caller: Caller) -> Result<Response> {
    let Identity::Person { proof: Proof::Token(token), .. } = caller.0 else {
        return Err(Error::invalid("not_renewable", "only personal access tokens can be renewed"));
    };
    let nodes = api.nodes.clone();
    let write = api.db.write_global(async move |tx| {
        let renewal = tokens::renew(tx, token).await?;
        if renewal.renewed {
            let nodes = nodes.clone();
            tx.after_commit(move || nodes.tell(Control::TokensChanged { tokens: vec![token.0] }));
        }
        Ok(renewal)
    });
    write.await.map(ok)
}
