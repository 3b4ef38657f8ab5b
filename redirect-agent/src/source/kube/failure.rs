//! Failures of requests to the API server.

use std::{error, fmt, time::Duration};

use kube::{Error, core::Status};
use tokio::time::timeout;

/// Waits for a response, for a limited time.
pub(super) async fn with_timeout<T>(
    response: impl Future<Output = Result<T, Error>> + Send,
    limit: Duration,
) -> Result<T, ApiFailure> {
    match timeout(limit, response).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(Error::Api(status))) => Err(ApiFailure::Api(status)),
        Ok(Err(error)) => Err(ApiFailure::Other(error)),
        Err(_) => Err(ApiFailure::Timeout(limit)),
    }
}

/// A failure of a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiFailure {
    /// The API server refused the request.
    #[error("{} ({})", .0.message, .0.code)]
    Api(Box<Status>),
    /// The request did not get through.
    #[error("{}", Chain(.0))]
    Other(Error),
    /// No response within this time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The API server closed a watch that it had just opened.
    #[error("the watch is closed as soon as it is open")]
    Closed,
    /// A list had no version to watch from.
    #[error("the list has no resourceVersion")]
    NoVersion,
}

/// An error with its causes, each shown once.
struct Chain<'a>(&'a dyn error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
            }
            shown = text;
            cause = error.source();
        }
        Ok(())
    }
}
