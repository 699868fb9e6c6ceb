//! The server of an app: it knows which tokens it gave to whom, and which of them live.
//!
//! Every part of a token names the number of its generation, so that parts of two generations are seen to be mixed.

use std::collections::BTreeMap;
use std::time::Duration;

use sessionbridge::time::Timestamp;

/// How long a session lives that nobody uses.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// What a request asks of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A page; who has no session gets one.
    Page,
    /// A form with a password: the session gets another id.
    Login,
    /// A page in answer to which the session gets another id.
    Rotate,
    /// Ends the session.
    Logout,
    /// A page that takes the token away.
    Lose,
    /// The heartbeat page.
    Ping,
    /// The server is out of order.
    Fail,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) sets: Vec<String>,
}

/// What a token looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `CFID` and `CFTOKEN`.
    Pair,
    /// `JSESSIONID`.
    One,
    /// `SID`, and a ticket that changes with each answer.
    Rolling,
}

#[derive(Debug)]
pub(crate) struct Server {
    form: Form,
    next: u64,
    /// By token.
    live: BTreeMap<u64, Timestamp>,
    tickets: u64,
}

impl Server {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, next: 100, live: BTreeMap::new(), tickets: 0 }
    }

    /// The generation that a request's cookies name.
    pub(crate) fn token(&self, cookies: &str) -> Result<Option<u64>, String> {
        let all = |name: &str| {
            let pairs = cookies.split("; ").filter_map(|pair| pair.split_once('='));
            pairs.filter(|(own, _)| *own == name).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        let parts: Vec<Vec<String>> = match self.form {
            Form::Pair => vec![all("CFID"), all("CFTOKEN")],
            Form::One => vec![all("JSESSIONID")],
            Form::Rolling => vec![all("SID")],
        };
        if parts.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let numbers: Option<Vec<u64>> = parts
            .iter()
            .map(|values| {
                let [value] = &values[..] else { return None };
                value.trim_start_matches(['J', 't']).parse().ok()
            })
            .collect();
        match numbers {
            Some(numbers) if numbers.iter().all(|number| *number == numbers[0]) => Ok(Some(numbers[0])),
            _ => Err(format!("parts of a token are mixed: {cookies}")),
        }
    }

    /// Answers. A token that is given out is told to `issues`.
    pub(crate) fn answer(
        &mut self,
        cookies: &str,
        (ask, again): (Ask, bool),
        now: Timestamp,
        mut issues: impl FnMut(u64),
    ) -> Result<Said, String> {
        let shown = self.token(cookies)?;
        self.live.retain(|_, touched| now.since(*touched) < TIMEOUT);
        let known = shown.filter(|token| self.live.contains_key(token));
        if ask == Ask::Fail {
            return Ok(Said { status: 503, sets: Vec::new() });
        }
        let mut said = Said { status: 200, sets: Vec::new() };
        match (ask, known) {
            (Ask::Logout | Ask::Lose, Some(token)) => {
                self.live.remove(&token);
                said.sets = self.deletions();
                if ask == Ask::Lose && again {
                    // Some apps take away only one of two.
                    said.sets.truncate(1);
                }
            }
            (Ask::Logout | Ask::Lose, None) => {}
            (Ask::Ping, None) if again => said.status = 302,
            (Ask::Page | Ask::Ping, Some(token)) => {
                self.live.insert(token, now);
                if again {
                    said.sets = self.sets(token);
                }
            }
            (_, known) => {
                if let Some(old) = known {
                    self.live.remove(&old);
                }
                self.next += 1;
                self.live.insert(self.next, now);
                issues(self.next);
                said.sets = self.sets(self.next);
            }
        }
        if ask == Ask::Logout {
            said.status = 302;
        }
        Ok(said)
    }

    /// The sign-out that the proxy asks for.
    pub(crate) fn sign_out(&mut self, token: u64) {
        self.live.remove(&token);
    }

    fn sets(&mut self, token: u64) -> Vec<String> {
        self.tickets += 1;
        match self.form {
            Form::Pair => vec![format!("CFID={token}; Path=/"), format!("CFTOKEN={token}; Path=/")],
            Form::One => vec![format!("JSESSIONID=J{token}; Path=/; HttpOnly")],
            Form::Rolling => {
                vec![format!("SID={token}; Path=/"), format!("ticket=t{token}x{}; Path=/", self.tickets)]
            }
        }
    }

    fn deletions(&self) -> Vec<String> {
        let names: &[&str] = match self.form {
            Form::Pair => &["CFID", "CFTOKEN"],
            Form::One => &["JSESSIONID"],
            Form::Rolling => &["SID", "ticket"],
        };
        names.iter().map(|name| format!("{name}=; Path=/; Max-Age=0")).collect()
    }

    /// As a browser would show `token`.
    pub(crate) fn shown(&self, token: u64) -> String {
        match self.form {
            Form::Pair => format!("CFID={token}; CFTOKEN={token}"),
            Form::One => format!("JSESSIONID=J{token}"),
            Form::Rolling => format!("SID={token}"),
        }
    }

    /// The values of `token`'s parts.
    pub(crate) fn parts(&self, token: u64) -> Vec<String> {
        match self.form {
            Form::Pair => vec![token.to_string(), token.to_string()],
            Form::One => vec![format!("J{token}")],
            Form::Rolling => vec![token.to_string()],
        }
    }

    /// One of all tokens that there ever were.
    pub(crate) fn one_of_all(&self, draw: u64) -> u64 {
        100 + draw % (self.next - 99)
    }

    /// A token from the time before the proxy.
    pub(crate) fn before(&mut self, now: Timestamp) -> u64 {
        self.next += 1;
        self.live.insert(self.next, now);
        self.next
    }
}
