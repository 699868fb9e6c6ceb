//! The head of a request on its way out, in HTTP/1.1's own form.
//!
//! Written once, as it goes over the wire: a map of fields that is built only to be written out again costs more than the
//! writing.
//!
//! Invariant: no octet of a name, a value or the target ends its line. Framing (Content-Length, Transfer-Encoding) and the
//! empty line are the sender's.

use http::Method;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};

/// The longest target (what the `http` crate takes).
const MAX_TARGET: usize = 65_534;

/// A request's head: its line and its fields.
#[derive(Clone)]
pub struct Head {
    method: Method,
    /// `GET /x HTTP/1.1`, then the fields, each with its line end.
    text: Vec<u8>,
    /// Where the target ends in `text`.
    target_end: usize,
}

impl Head {
    /// One without fields, with room for some `room` bytes of them.
    #[must_use]
    pub fn new(method: Method, target: &str, room: usize) -> Self {
        let word = method.as_str();
        let mut text = Vec::with_capacity(word.len() + target.len() + room + 12);
        text.extend_from_slice(word.as_bytes());
        text.push(b' ');
        text.extend_from_slice(target.as_bytes());
        let target_end = text.len();
        text.extend_from_slice(b" HTTP/1.1\r\n");
        Self { method, text, target_end }
    }

    /// One with `fields`, but for those that frame a body.
    #[must_use]
    pub fn with(method: Method, target: &str, fields: &HeaderMap) -> Self {
        let mut head = Self::new(method, target, 256);
        for (name, value) in fields {
            if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                head.put(name.as_str(), value);
            }
        }
        head
    }

    /// The method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        let target = self.text.get(self.method.as_str().len() + 1..self.target_end).unwrap_or_default();
        std::str::from_utf8(target).unwrap_or_default()
    }

    /// The path alone.
    #[must_use]
    pub fn path(&self) -> &str {
        let target = self.target();
        memchr::memchr(b'?', target.as_bytes()).and_then(|at| target.get(..at)).unwrap_or(target)
    }

    /// False for a target that cannot stand in a request line, or is too long for one.
    #[must_use]
    pub fn has_valid_target(&self) -> bool {
        let target = self.target().as_bytes();
        target.len() <= MAX_TARGET
            && matches!(target.first(), Some(b'/' | b'*'))
            && target.iter().all(|&octet| octet > b' ' && octet != 0x7f && octet != b'#')
    }

    /// Adds a field.
    pub fn put(&mut self, name: &str, value: &HeaderValue) {
        for piece in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            self.text.extend_from_slice(piece);
        }
    }

    /// Adds a field whose value `write` appends. One that is empty, or that no field may have, is none.
    pub fn put_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let line = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b": ");
        let from = self.text.len();
        write(&mut self.text);
        let valid = self.text.get(from..).is_some_and(is_value);
        if valid { self.text.extend_from_slice(b"\r\n") } else { self.text.truncate(line) }
    }

    /// Puts a field in the place of all of its name.
    pub fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.remove(name);
        self.put(name.as_str(), value);
    }

    /// Takes all fields of a name away.
    pub fn remove(&mut self, name: &HeaderName) {
        let (line, _) = self.halves();
        let mut kept = Vec::with_capacity(self.text.len() + 64);
        kept.extend_from_slice(line);
        for (other, value) in self.fields().filter(|(other, _)| *other != name.as_str()) {
            [other.as_bytes(), b": ", value, b"\r\n"].iter().for_each(|piece| kept.extend_from_slice(piece));
        }
        self.text = kept;
    }

    /// The first value of a name.
    #[must_use]
    pub fn field(&self, name: &HeaderName) -> Option<&[u8]> {
        self.fields().find(|(other, _)| *other == name.as_str()).map(|(_, value)| value)
    }

    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let (_, mut rest) = self.halves();
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\n', rest)?;
            let (line, behind) = rest.split_at(end + 1);
            rest = behind;
            let line = line.strip_suffix(b"\r\n")?;
            let colon = memchr::memchr(b':', line)?;
            Some((std::str::from_utf8(line.get(..colon)?).ok()?, line.get(colon + 2..)?))
        })
    }

    /// The fields as a map.
    #[cfg(test)]
    pub(crate) fn map(&self) -> HeaderMap {
        let field = |(name, value): (&str, &[u8])| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap())
        };
        let mut map = HeaderMap::new();
        self.fields().map(field).for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    /// The whole, as it is sent.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    fn halves(&self) -> (&[u8], &[u8]) {
        let at = self.target_end + b" HTTP/1.1\r\n".len();
        self.text.split_at_checked(at).unwrap_or((&self.text, b""))
    }
}

impl std::fmt::Debug for Head {
    /// Without the fields: some of them are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").field("method", &self.method).finish_non_exhaustive()
    }
}

/// What RFC 9110, 5.5, allows, but for nothing at all. Counted rather than searched: that is done many octets at a time.
fn is_value(octets: &[u8]) -> bool {
    let odd = octets.iter().filter(|&&octet| (octet < b' ' && octet != b'\t') | (octet == 0x7f)).count();
    odd == 0 && !octets.is_empty()
}

#[cfg(test)]
mod tests {
    use http::header::{COOKIE, HOST};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_what_goes_over_the_wire() {
        let mut head = Head::new(Method::POST, "/a?b", 0);
        head.put("host", &HeaderValue::from_static("app"));
        head.put("cookie", &HeaderValue::from_static("a=1"));
        head.put("cookie", &HeaderValue::from_static("b=2"));
        assert_eq!(head.text(), b"POST /a?b HTTP/1.1\r\nhost: app\r\ncookie: a=1\r\ncookie: b=2\r\n");
        assert_eq!((head.target(), head.path(), head.field(&HOST)), ("/a?b", "/a", Some(&b"app"[..])));
        head.set(&COOKIE, &HeaderValue::from_static("c=3"));
        assert_eq!(head.fields().collect::<Vec<_>>(), [("host", &b"app"[..]), ("cookie", b"c=3")]);
        head.remove(&HOST);
        assert_eq!(head.text(), b"POST /a?b HTTP/1.1\r\ncookie: c=3\r\n");
    }

    #[test]
    fn a_target_is_one_word() {
        let valid = |target: &str| Head::new(Method::GET, target, 0).has_valid_target();
        assert!(valid("/") && valid("/a?b=%20") && valid("*"));
        for target in ["", "a", "/a b", "/a\r\nx: y", "/a#b", "/\u{7f}"] {
            assert!(!valid(target), "{target:?}");
        }
        assert!(!valid(&format!("/{}", "a".repeat(MAX_TARGET))));
    }

    proptest! {
        #[test]
        fn no_value_begins_another_line(value: Vec<u8>) {
            let mut head = Head::new(Method::GET, "/", 0);
            head.put_with("x", |out| out.extend_from_slice(&value));
            head.put("y", &HeaderValue::from_static("z"));
            let fields: Vec<_> = head.fields().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            let valid = !value.is_empty() && HeaderValue::from_bytes(&value).is_ok();
            let mut expected = vec![("y".to_owned(), b"z".to_vec())];
            if valid {
                expected.insert(0, ("x".to_owned(), value));
            }
            prop_assert_eq!(fields, expected);
        }
    }
}
