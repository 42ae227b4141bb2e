//! `GET /metrics`, in the OpenMetrics text format.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{Api, extract::Remote};
use crate::error::{Error, Result};

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A request that has passed a proxy is not from this machine.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// The counters: for who has the configured token, or, without one, for this machine only.
pub async fn show(State(api): State<Api>, remote: Remote, headers: HeaderMap) -> Result<Response> {
    match &api.settings.metrics_token {
        Some(token) => {
            let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            if given.and_then(|text| text.strip_prefix("Bearer ")) != Some(token) {
                return Err(Error::unauthenticated("invalid_metrics_token", "invalid token"));
            }
        }
        None => {
            let forwarded = FORWARDED.iter().any(|name| headers.get(*name).is_some_and(|value| !value.is_empty()));
            if !remote.0.is_loopback() || forwarded {
                return Err(Error::not_found("route_not_found", "404 page not found"));
            }
        }
    }
    api.fleet.measure();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &api.metrics).map_err(Error::internal)?;
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    Ok(response)
}
