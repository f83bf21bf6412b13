//! The connection to one node: submissions out, receipts in, nothing repeated.

use std::future::Future;
use std::net::SocketAddr;

use rorqual_client::submission::Submission;

/// What became of a submission.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is in the log.
    Committed,
    /// It is not and will not be, for this reason.
    Rejected(String),
    /// The connection broke before the receipt.
    Unknown(String),
}

/// One connection.
#[derive(Clone)]
pub struct Link {}

impl Link {
    /// Connects to the client address of a node.
    ///
    /// # Errors
    /// One sentence that names the address.
    pub async fn connect(address: SocketAddr, _ids: bool) -> Result<Self, String> {
        Err(format!("cannot connect to {address}: the client link is not built yet"))
    }

    /// Hands a submission over, once there is credit for it. The future that is returned ends with its receipt.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub async fn submit(&self, submission: Submission) -> Result<impl Future<Output = Answer> + 'static, String> {
        let _ = submission;
        Ok(async { Answer::Committed })
    }
}
