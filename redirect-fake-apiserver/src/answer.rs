// SPDX-License-Identifier: MIT OR Apache-2.0
//! The forms of an answer: whole, in pieces, or a failure as the API says it.

use std::io::{self, Error};

use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame},
};
use serde_json::{Value, json};

/// The body of an answer of either form.
pub(crate) type Body = UnsyncBoxBody<Bytes, Error>;

/// A whole answer.
pub(crate) fn whole(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A failure, as the API says it.
pub(crate) fn status(code: u16, message: &str) -> Response<Body> {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    whole(status, &failure(code, message))
}

pub(crate) fn failure(code: u16, message: &str) -> Value {
    let reason = if code == 404 { "NotFound" } else { "Scripted" };
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {},
        "status": "Failure", "reason": reason, "code": code, "message": message,
    })
}

/// An answer in pieces.
pub(crate) fn stream(
    pieces: impl futures_util::Stream<Item = Result<Frame<Bytes>, Error>> + Send + 'static,
) -> Response<Body> {
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

/// What ends a connection in the middle.
pub(crate) fn cut() -> Error {
    Error::from(io::ErrorKind::ConnectionAborted)
}
