//! The core's words as the metrics' labels: the one place where the two lists meet.

use crate::bridge::beat::Verdict;
use crate::bridge::session::End;
use crate::telemetry::labels;

impl From<Verdict> for labels::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Alive => Self::Alive,
            Verdict::Reborn => Self::Reborn,
            Verdict::Replaced => Self::Replaced,
            Verdict::SignedOut => Self::SignedOut,
            Verdict::Unreachable => Self::Unreachable,
        }
    }
}

impl From<End> for labels::EndReason {
    fn from(end: End) -> Self {
        match end {
            End::UserLogout => Self::UserLogout,
            End::AppLogout => Self::AppLogout,
            End::Operator => Self::Operator,
            End::Idle => Self::Idle,
            End::MaxLifetime => Self::MaxLifetime,
            End::Evicted | End::Joined => Self::Evicted,
            End::Released => Self::Released,
        }
    }
}
