//! A body that may be left out.

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::{
    Api,
    extract::{Raw, bad_body},
};
use crate::{error::Error, protocol::lenient};

/// As `Body`, where none at all says the same as an empty object.
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for OptionalBody<T> {
    type Rejection = Error;
    async fn from_request(request: Request, api: &Api) -> Result<Self, Error> {
        let Raw(bytes) = Raw::from_request(request, api).await?;
        let said: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
        lenient::decode(said).map(Self).map_err(|_| bad_body())
    }
}
