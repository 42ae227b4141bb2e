//! Answers: JSON, and errors as JSON. A refusal tells the caller what to mend; trouble of ours is
//! one sentence with the request's id, and everything else about it is in the log.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    error::{Error, Kind},
    events::Judged,
};

/// A JSON answer.
pub struct Json<T>(pub StatusCode, pub T);

/// 200.
pub fn ok<T: Serialize>(value: T) -> Response {
    Json(StatusCode::OK, value).into_response()
}

/// 201.
pub fn created<T: Serialize>(value: T) -> Response {
    Json(StatusCode::CREATED, value).into_response()
}

/// 202.
pub fn accepted<T: Serialize>(value: T) -> Response {
    Json(StatusCode::ACCEPTED, value).into_response()
}

/// 204.
pub fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Says from which position of the workspace's sequence on a list may be out of date.
pub fn at_position(position: &Judged, mut response: Response) -> Response {
    let headers = response.headers_mut();
    if let Ok(epoch) = HeaderValue::from_str(&position.epoch) {
        headers.insert("x-event-epoch", epoch);
    }
    headers.insert("x-event-seq", HeaderValue::from(position.seq));
    response
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(body) => {
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = self.0;
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(error) => Error::internal(error).into_response(),
        }
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    code: &'a str,
    #[serde(flatten)]
    details: Map<String, Value>,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => {
                let status = match refusal.kind {
                    Kind::Invalid => StatusCode::BAD_REQUEST,
                    Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
                    Kind::Forbidden => StatusCode::FORBIDDEN,
                    Kind::NotFound => StatusCode::NOT_FOUND,
                    Kind::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
                    Kind::Conflict => StatusCode::CONFLICT,
                    Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                    Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
                    Kind::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
                    Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
                };
                tracing::debug!(code = refusal.code, text = %refusal.text, "refused");
                let problem = Problem { error: &refusal.text, code: refusal.code, details: refusal.details };
                let mut response = Json(status, problem).into_response();
                if status == StatusCode::PAYLOAD_TOO_LARGE {
                    // The rest of the body is not read, so the connection cannot be used again.
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                if status == StatusCode::TOO_MANY_REQUESTS {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                }
                if status == StatusCode::UPGRADE_REQUIRED {
                    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                }
                response
            }
            other => {
                let (status, text, code) = if other.is_transient() {
                    (StatusCode::SERVICE_UNAVAILABLE, "temporarily unavailable", "unavailable")
                } else {
                    (StatusCode::INTERNAL_SERVER_ERROR, "internal error", "internal")
                };
                tracing::error!(error = %other, "request failed");
                let mut response = Json(status, Problem { error: text, code, details: Map::new() }).into_response();
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
                response
            }
        }
    }
}
