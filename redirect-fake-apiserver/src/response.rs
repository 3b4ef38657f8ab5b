// SPDX-License-Identifier: MIT OR Apache-2.0
//! HTTP responses: a whole JSON body, a stream, or an API `Status` that reports a failure.

use std::io::{self, Error};

use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame},
};
use serde_json::{Value, json};

/// The body of a response, whole or streamed.
pub(crate) type Body = UnsyncBoxBody<Bytes, Error>;

/// Makes a response with a whole JSON body.
pub(crate) fn whole(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Makes a response that reports a failure, with an API `Status` as its body.
pub(crate) fn status(code: u16, message: &str) -> Response<Body> {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    whole(status, &failure(code, message))
}

/// Makes an API `Status` that reports a failure.
pub(crate) fn failure(code: u16, message: &str) -> Value {
    let reason = if code == 404 { "NotFound" } else { "Scripted" };
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {},
        "status": "Failure", "reason": reason, "code": code, "message": message,
    })
}

/// Makes a response whose body is sent frame by frame.
pub(crate) fn stream(
    frames: impl futures_util::Stream<Item = Result<Frame<Bytes>, Error>> + Send + 'static,
) -> Response<Body> {
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// The error that closes a connection in the middle of a body.
pub(crate) fn disconnect() -> Error {
    Error::from(io::ErrorKind::ConnectionAborted)
}
