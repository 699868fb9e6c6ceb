//! The key file: who has it and the store can read the people's tokens, who has only the store cannot.
//!
//! One key a line: an id of its own, then 32 random bytes as base64. The first line seals, every line opens, so a key is
//! changed by putting a new line above the others.
//!
//! Invariant: a key is never made where a store exists already: what it holds could not be opened with it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::{Zeroize as _, Zeroizing};

use crate::secret::digest16;

/// Where containers find their secrets, readable for users of their own: who may enter one is not for permissions to say.
const CONTAINER: &str = "/run/secrets";

/// What a key file says.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<Key>);

/// One line of it.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// What people call it.
    pub(super) name: Box<str>,
    /// What records call it: a hash of the key itself, so that two keys under one name are told apart.
    pub(super) print: Print,
    /// 32 bytes, ready to derive others from.
    pub(super) key: hmac::Key,
}

/// Which key sealed something.
pub(super) type Print = [u8; 4];

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read or made.
    #[error("the key file {path} cannot be {verb}")]
    File {
        /// Where.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is none, but there are sessions that were sealed with one.
    #[error(
        "the key file {0} is missing, and the sessions in the store cannot be read without it; \
         put it back, or move the store away to begin anew (everybody signs in again)"
    )]
    Missing(PathBuf),
    /// There is none, and every proxy must have the same.
    #[error(
        "the key file {0} is missing; proxies that share a store need the same one, so it is not made here: make it once by \
         `echo \"k1 $(openssl rand -base64 32)\"` and give it to each of them"
    )]
    Wanted(PathBuf),
    /// A line is none.
    #[error("line {line} of the key file {path} is not an id and 32 bytes as base64 (`id BASE64`)")]
    Line {
        /// Where.
        path: PathBuf,
        /// Counted from one.
        line: usize,
    },
    /// It names no key.
    #[error("the key file {0} has no key; a line is made by `echo \"k1 $(openssl rand -base64 32)\"`")]
    Empty(PathBuf),
}

impl Keys {
    /// Reads the key file at `path`. Where there is none: `make` are 32 random bytes for a first key; `None`: it must be
    /// there.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub(super) fn load(path: &Path, make: Option<[u8; 32]>) -> Result<Self, KeysError> {
        let failed = |verb, source| KeysError::File { path: path.to_owned(), verb, source };
        let mut file = match (File::open(path), make) {
            (Ok(file), _) => file,
            (Err(error), Some(bytes)) if error.kind() == io::ErrorKind::NotFound => {
                return Self::make(path, bytes).map_err(|source| failed("made", source));
            }
            (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KeysError::Missing(path.to_owned()));
            }
            (Err(error), _) => return Err(failed("read", error)),
        };
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(|source| failed("read", source))?;
        let open = file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0);
        if open && !path.starts_with(CONTAINER) {
            tracing::warn!(path = %path.display(), "everybody on this machine may read the key file; chmod 600 it");
        }
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = key(line).ok_or_else(|| KeysError::Line { path: path.to_owned(), line: at + 1 })?;
            keys.push(key);
        }
        if keys.is_empty() { Err(KeysError::Empty(path.to_owned())) } else { Ok(Self(keys)) }
    }

    /// Makes the file, readable for its owner alone, with one key.
    fn make(path: &Path, mut bytes: [u8; 32]) -> io::Result<Self> {
        let mut line = Zeroizing::new(String::with_capacity(64));
        let _ = write!(line, "k1 {}", STANDARD.encode(bytes));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(b"# The first line seals, every line opens: to change the key, put a new line above the others.\n")?;
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        let key = Key::new("k1", &bytes);
        bytes.zeroize();
        Ok(Self(vec![key]))
    }

    /// The one that seals.
    pub(super) fn first(&self) -> Option<&Key> {
        self.0.first()
    }

    /// All of them, the one that seals first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// True where another one seals by now.
    pub(super) fn is_old(&self, print: Print) -> bool {
        self.first().is_none_or(|first| first.print != print)
    }

    /// The one with this print.
    pub(super) fn of(&self, print: Print) -> Option<&Key> {
        self.0.iter().find(|key| key.print == print)
    }
}

impl Key {
    fn new(name: &str, bytes: &[u8; 32]) -> Self {
        let mut print = Print::default();
        let hash = Zeroizing::new([b"sessionbridge key print", &bytes[..]].concat());
        for (to, from) in print.iter_mut().zip(digest16(&hash)) {
            *to = from;
        }
        Self { name: name.into(), print, key: hmac::Key::new(hmac::HMAC_SHA256, bytes) }
    }
}

fn key(line: &str) -> Option<Key> {
    let (name, text) = line.split_once(char::is_whitespace)?;
    let named =
        name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let text = text.trim().trim_end_matches('=');
    let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(text).ok()?);
    let bytes: &[u8; 32] = bytes.as_slice().try_into().ok()?;
    named.then(|| Key::new(name, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "k1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn parse(text: &str) -> Result<Keys, KeysError> {
        Keys::parse(Path::new("/keys"), text)
    }

    #[test]
    fn the_first_line_seals_and_every_line_opens() {
        let keys = parse(&format!("# new above old\nk2 {}\n\n{ONE}\n", STANDARD.encode([7; 32]))).unwrap();
        assert_eq!(keys.first().map(|key| &*key.name), Some("k2"));
        let old = parse(ONE).unwrap().first().unwrap().print;
        assert_eq!(keys.of(old).map(|key| &*key.name), Some("k1"));
        assert!(keys.of([0; 4]).is_none());
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for bad in ["k1", "k1 AAAA", &format!("k\u{e4} {ONE}"), "k1 !!!!"] {
            let error = parse(&format!("{ONE}\n{bad}")).unwrap_err().to_string();
            assert!(error.contains("line 2 of the key file /keys"), "{bad}: {error}");
            assert!(!error.contains("AAEC"), "no key is shown");
        }
        assert!(matches!(parse("# nothing\n"), Err(KeysError::Empty(_))));
    }

    #[test]
    fn it_is_made_once_for_its_owner_alone_and_not_where_sessions_wait_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        assert!(matches!(Keys::load(&path, None), Err(KeysError::Missing(_))));
        let made = Keys::load(&path, Some([3; 32])).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Keys::load(&path, Some([4; 32])).unwrap();
        assert_eq!(read.first().map(|key| key.print), made.first().map(|key| key.print));
        let wanted = key(&format!("k1 {}", STANDARD.encode([3; 32]))).map(|key| key.print);
        assert_eq!(read.first().map(|key| key.print), wanted);
    }
}
