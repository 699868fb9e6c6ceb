//! What went wrong at a server, in the words that requests have for it.

use std::fmt;

use crate::net::client::SendError;
use crate::telemetry::labels::Reason;

/// Why a server did not answer as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There was no answer, and this is why.
    Silent(Reason),
    /// A health check was answered with this status.
    Status(u16),
}

impl Fault {
    /// What `error` says of the server that it came from; `None` where it says something of somebody else: of the client,
    /// of a connection that the server had closed as idle.
    #[must_use]
    pub fn of(error: &SendError) -> Option<Self> {
        Some(Self::Silent(match error {
            SendError::Connect(source) if is_our_own(source) => return None,
            SendError::Dns(_) => Reason::DnsFailed,
            SendError::Connect(_) => Reason::ConnectRefused,
            SendError::ConnectTimeout => Reason::ConnectTimeout,
            SendError::FirstByteTimeout => Reason::FirstByteTimeout,
            SendError::Reset { reused: false, .. } => Reason::UpstreamReset,
            SendError::BadResponse(_) | SendError::AmbiguousLength | SendError::Unasked => {
                Reason::BadResponse
            }
            SendError::Reset { reused: true, .. } | SendError::RequestBody(_) => return None,
        }))
    }

    /// True where it says that the server is not there. One that answers, whatever it says, is.
    #[must_use]
    pub const fn opens(self) -> bool {
        matches!(
            self,
            Self::Silent(
                Reason::DnsFailed
                    | Reason::ConnectRefused
                    | Reason::ConnectTimeout
                    | Reason::FirstByteTimeout
                    | Reason::UpstreamReset
            )
        )
    }
}

/// True for what this machine lacks, and no server is to blame for: descriptors, ports, memory (`EMFILE`, `ENFILE`,
/// `EADDRNOTAVAIL`, `ENOBUFS`, `ENOMEM` of Linux).
fn is_our_own(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 99 | 105 | 12))
}

/// `connect_refused`, `status_503`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(reason) => f.write_str(reason.as_str()),
            Self::Status(status) => write!(f, "status_{status}"),
        }
    }
}
