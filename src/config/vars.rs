//! `${VAR}`, `${VAR:-default}` and `${file:/path}` inside strings of the config; `$${` is a literal `${`.
//!
//! Resolved after parsing, once: what a variable holds is never looked into again, and never shown.

use std::ffi::OsString;
use std::path::Path;

/// Where variables and files come from: the process, or a test.
pub(super) trait Outside {
    /// The environment variable `name`.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of the file at `path`.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn file(&self, path: &Path) -> std::io::Result<String>;
    /// True where `path` leads to a file, whatever is in it.
    fn has(&self, path: &Path) -> bool {
        path.exists()
    }
    /// The names of what is in `directory`; none where it cannot be read.
    fn names(&self, directory: &Path) -> Vec<OsString> {
        let listed = std::fs::read_dir(directory);
        listed.into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
    }
}

/// The process's own environment and file system.
pub(super) struct Process;

impl Outside for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// Why a string cannot be resolved: what is wrong, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unresolved {
    pub(super) title: String,
    pub(super) label: String,
}

/// `text` with its references resolved; `None` where it has none.
pub(super) fn resolve(text: &str, outside: &dyn Outside) -> Result<Option<String>, Unresolved> {
    if !text.contains("${") {
        return Ok(None);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let inner = from.get(2..).unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = inner;
            continue;
        }
        out.push_str(before);
        let Some((reference, after)) = inner.split_once('}') else {
            return Err(Unresolved {
                title: "`${` without its `}`".to_owned(),
                label: "write `$${` for a literal `${`".to_owned(),
            });
        };
        out.push_str(&value(reference, outside)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(Some(out))
}

/// What one reference stands for.
fn value(reference: &str, outside: &dyn Outside) -> Result<String, Unresolved> {
    if let Some(path) = reference.strip_prefix("file:") {
        return match outside.file(Path::new(path)) {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                Err(Unresolved { title: format!("cannot read the file `{path}`"), label: reason(&error) })
            }
        };
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let well_formed =
        !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
    if !well_formed {
        return Err(Unresolved {
            title: "`${..}` does not name a variable".to_owned(),
            label: "write `${VAR}`, `${VAR:-default}` or `${file:/path}`; `$${` for a literal `${`"
                .to_owned(),
        });
    }
    // As in a shell, `:-` also stands in for a variable that is set and empty.
    match (outside.variable(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Unresolved {
            title: format!("the environment variable `{name}` is not set"),
            label: format!("set it, or give a default: `${{{name}:-..}}`"),
        }),
    }
}

/// An I/O error without the number that the system gives it, which differs between systems.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Outside for Fixed {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "A" => Some("one ${B}".to_owned()),
                "EMPTY" => Some(String::new()),
                _ => None,
            }
        }

        fn file(&self, path: &Path) -> std::io::Result<String> {
            if path == Path::new("/secret") {
                Ok("s3\n".to_owned())
            } else {
                Err(std::io::ErrorKind::NotFound.into())
            }
        }
    }

    fn resolved(text: &str) -> Option<String> {
        resolve(text, &Fixed).unwrap()
    }

    #[test]
    fn references_are_resolved_once() {
        assert_eq!(resolved("plain $x"), None);
        assert_eq!(resolved("<${A}>").unwrap(), "<one ${B}>");
        assert_eq!(resolved("${NO:-d}${EMPTY:-e}${A:-f}").unwrap(), "deone ${B}");
        assert_eq!(resolved("${NO:-}").unwrap(), "");
        assert_eq!(resolved("x${file:/secret}y").unwrap(), "xs3y");
        assert_eq!(resolved("$${A}").unwrap(), "${A}");
    }

    #[test]
    fn what_is_missing_is_an_error() {
        assert!(resolve("${NO}", &Fixed).unwrap_err().title.contains("`NO`"));
        assert!(resolve("${file:/none}", &Fixed).unwrap_err().label.contains("no such file"));
        assert!(resolve("${A", &Fixed).is_err());
        assert!(resolve("${}", &Fixed).is_err());
        assert!(resolve("${a b}", &Fixed).is_err());
    }
}
