//! Why an API server could not be asked.

use std::{error, fmt, time::Duration};

use kube::{Error, core::Status};
use tokio::time::timeout;

/// An answer, if it begins in time.
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

/// Why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiFailure {
    /// It says so.
    #[error("{} ({})", .0.message, .0.code)]
    Api(Box<Status>),
    /// Something on the way to it.
    #[error("{}", Chain(.0))]
    Other(Error),
    /// Nothing, for so long.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It closes what it has only just opened.
    #[error("the watch is closed as soon as it is open")]
    Closed,
    /// There is nothing to watch from.
    #[error("the list has no resourceVersion")]
    NoVersion,
}

/// An error with its causes, each said once.
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
