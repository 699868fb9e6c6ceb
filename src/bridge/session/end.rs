//! Why a bridge session ended, and what follows from that.

/// Why a bridge session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The person asked the proxy.
    UserLogout,
    /// A sign-out was seen in an app.
    AppLogout,
    /// An operator ended it.
    Operator,
    /// No activity.
    Idle,
    /// The hard end.
    MaxLifetime,
    /// Its cookie never came back, or it made room.
    Evicted,
    /// Its app sessions moved into another bridge session of the same browser.
    Joined,
    /// `mode = "release"` handed its cookies back to the browser.
    Released,
}

impl End {
    /// All of them, in the order of their labels.
    pub const ALL: [Self; 8] = [
        Self::UserLogout,
        Self::AppLogout,
        Self::Operator,
        Self::Idle,
        Self::MaxLifetime,
        Self::Evicted,
        Self::Joined,
        Self::Released,
    ];

    /// The word for it, everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserLogout => "user_logout",
            Self::AppLogout => "app_logout",
            Self::Operator => "operator",
            Self::Idle => "idle",
            Self::MaxLifetime => "max_lifetime",
            Self::Evicted => "evicted",
            Self::Joined => "joined",
            Self::Released => "released",
        }
    }

    /// True where nobody asked for it.
    #[must_use]
    pub const fn is_by_clock(self) -> bool {
        matches!(self, Self::Idle | Self::MaxLifetime)
    }

    /// True where the apps are to be signed out as well.
    #[must_use]
    pub const fn signs_apps_out(self) -> bool {
        !matches!(self, Self::Evicted | Self::Joined | Self::Released)
    }
}
