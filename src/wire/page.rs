//! What an HTML page offers to go on with: its links and its forms, and where they lead.
//!
//! Read with a tokenizer of the HTML standard, not with searches in text: entities are decoded, and nothing inside a
//! comment, a script or a style counts. Lossy by purpose, and so never used on a page that passes to a browser.

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{HtmlString, StartTag, Token, Tokenizer};

/// What was found on a page, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The text of `<title>`, white space folded.
    pub title: String,
    /// `<base href>`: what relative references are resolved against instead of the page's own URL.
    pub base: Option<String>,
    /// Links and frames.
    pub links: Vec<Link>,
    /// Forms.
    pub forms: Vec<Form>,
}

/// `<a href>`, `<area href>`, or the source of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// As written, entities decoded, white space around it cut.
    pub href: String,
    /// Its text, white space folded.
    pub text: String,
}

/// A form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Where it goes, as written; empty: the page's own URL.
    pub action: String,
    /// True for `method="post"`.
    pub is_post: bool,
    /// Its controls, in their order.
    pub fields: Vec<Field>,
}

/// A control of a form.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name; empty where it has none.
    pub name: String,
    /// The value that it has before anybody types.
    pub value: String,
    /// What it is.
    pub kind: FieldKind,
}

/// The value may be a CSRF token: it is not shown.
impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.kind, self.name)
    }
}

/// What a control is, as far as sending a form unseen goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `type="hidden"`.
    Hidden,
    /// `type="password"`.
    Password,
    /// A button that sends the form.
    Submit,
    /// Anything that a person fills in.
    Open,
}

impl Form {
    /// The body (or query) that sends this form as a person would who only presses its button: hidden fields, and the first
    /// button that has a name. `application/x-www-form-urlencoded` in UTF-8.
    #[must_use]
    pub fn encoded(&self) -> String {
        let hidden = self.fields.iter().filter(|field| field.kind == FieldKind::Hidden);
        let button =
            self.fields.iter().find(|field| field.kind == FieldKind::Submit && !field.name.is_empty());
        let mut out = String::new();
        for field in hidden.filter(|field| !field.name.is_empty()).chain(button) {
            if !out.is_empty() {
                out.push('&');
            }
            encode(&mut out, &field.name);
            out.push('=');
            encode(&mut out, &field.value);
        }
        out
    }

    /// True where somebody is asked for a password.
    #[must_use]
    pub fn asks_for_password(&self) -> bool {
        self.fields.iter().any(|field| field.kind == FieldKind::Password)
    }
}

/// One name or value, as WHATWG's URL standard encodes form fields.
fn encode(out: &mut String, text: &str) {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');
    for piece in percent_encoding::utf8_percent_encode(text, &KEPT) {
        out.extend(piece.chars().map(|c| if c == ' ' { '+' } else { c }));
    }
}

impl Page {
    /// Reads `html`, which is taken for UTF-8: what is not is replaced, and the names that matter here are ASCII.
    #[must_use]
    pub fn read(html: &[u8]) -> Self {
        let mut emitter = DefaultEmitter::<()>::default();
        emitter.naively_switch_states(true);
        let mut reader = Reader::default();
        for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
            match token {
                Token::StartTag(tag) => reader.start(&tag),
                Token::EndTag(tag) => reader.end(&tag.name),
                Token::String(text) => reader.text(&text),
                _ => {}
            }
        }
        reader.close_link();
        reader.page.title = folded(&reader.page.title);
        reader.page
    }

    /// The path and query that `reference` on the page at `path` (with its query) of `authority` leads to. `None` where it
    /// leaves the origin, or is no HTTP link (`mailto:`, `javascript:`), or only a place on the same page.
    #[must_use]
    pub fn resolve(&self, authority: &str, path: &str, reference: &str) -> Option<String> {
        let base = self.base.as_deref().and_then(|base| resolve(authority, path, base));
        resolve(authority, base.as_deref().unwrap_or(path), reference)
    }
}

/// Reading, between two tokens.
#[derive(Default)]
struct Reader {
    page: Page,
    /// The link that text belongs to.
    link: Option<Link>,
    in_form: bool,
    in_title: bool,
}

impl Reader {
    fn start(&mut self, tag: &StartTag<()>) {
        let attribute = |name: &str| attribute(tag, name);
        match tag.name.as_slice() {
            b"title" => self.in_title = self.page.title.is_empty(),
            b"base" => self.page.base = self.page.base.take().or_else(|| attribute("href")),
            b"a" | b"area" => {
                self.close_link();
                if let Some(href) = attribute("href") {
                    self.link = Some(Link { href, text: String::new() });
                }
            }
            b"frame" | b"iframe" => {
                if let Some(href) = attribute("src") {
                    self.page.links.push(Link { href, text: String::new() });
                }
            }
            b"form" if !self.in_form => {
                self.in_form = true;
                self.page.forms.push(Form {
                    action: attribute("action").unwrap_or_default(),
                    is_post: attribute("method").is_some_and(|method| method.eq_ignore_ascii_case("post")),
                    fields: Vec::new(),
                });
            }
            b"input" | b"button" | b"select" | b"textarea" if self.in_form => {
                let kind = kind(&tag.name, attribute("type").as_deref());
                let (name, value) = (raw(tag, "name"), raw(tag, "value"));
                if let Some(form) = self.page.forms.last_mut() {
                    form.fields.push(Field { name, value, kind });
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &HtmlString) {
        match name.as_slice() {
            b"a" => self.close_link(),
            b"form" => self.in_form = false,
            b"title" => self.in_title = false,
            _ => {}
        }
    }

    fn text(&mut self, text: &HtmlString) {
        let text = String::from_utf8_lossy(text);
        if self.in_title {
            self.page.title.push_str(&text);
        }
        if let Some(link) = &mut self.link {
            link.text.push_str(&text);
        }
    }

    fn close_link(&mut self) {
        if let Some(mut link) = self.link.take() {
            link.text = folded(&link.text);
            self.page.links.push(link);
        }
    }
}

fn kind(element: &[u8], kind: Option<&str>) -> FieldKind {
    match (element, kind.map(str::to_ascii_lowercase).as_deref()) {
        (b"input", Some("hidden")) => FieldKind::Hidden,
        (b"input", Some("password")) => FieldKind::Password,
        (b"input", Some("submit" | "image")) | (b"button", None | Some("submit" | "")) => FieldKind::Submit,
        _ => FieldKind::Open,
    }
}

/// An attribute's value without white space around it; `None` where it is absent.
fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    tag.attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).trim().to_owned())
}

/// An attribute's value as it is; empty where it is absent.
fn raw(tag: &StartTag<()>, name: &str) -> String {
    tag.attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into()).unwrap_or_default()
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// RFC 3986, 5.2, within one origin: the path and query that `reference` leads to from `from` (a path with query).
fn resolve(authority: &str, from: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.is_empty() {
        return None;
    }
    let super::location::Parts { scheme, authority: other, rest } = super::location::split(reference)?;
    let is_web = |scheme: &str| ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    if !scheme.is_none_or(|scheme| is_web(scheme) && other.is_some())
        || !other.is_none_or(|other| other.eq_ignore_ascii_case(authority))
    {
        return None;
    }
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let from_path = from.split('?').next().unwrap_or("/");
    let joined = if path.starts_with('/') {
        without_dots(path)
    } else if path.is_empty() {
        if query.is_some() { from_path.to_owned() } else { "/".to_owned() }
    } else {
        let folder = from_path.rfind('/').map_or("/", |at| from_path.get(..=at).unwrap_or("/"));
        without_dots(&format!("{folder}{path}"))
    };
    let target = query.map_or_else(|| joined.clone(), |query| format!("{joined}?{query}"));
    Some(percent_encoding::utf8_percent_encode(&target, UNSENDABLE).to_string())
}

/// What browsers encode on the way: no request line may hold it.
const UNSENDABLE: &percent_encoding::AsciiSet =
    &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// RFC 3986, 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        match *segment {
            "." if is_last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_forms_are_found_with_entities_decoded_and_nothing_inside_scripts() {
        let page = Page::read(
            b"<!doctype html><title> A\n page </title><!-- <a href=/no>no</a> -->
            <script>document.write('<a href=/no>no</a>')</script>
            <A HREF=' /AppA/index.cfm?do=logout&amp;x=1 '>Sign <b>out</b></a>
            <form method=POST action=/admin/logout/><input type=hidden name=csrf value='a+b &amp; c'>
            <input name=note value=typed><input type=password name=p><button>Go</button></form>
            <input type=hidden name=outside value=1><iframe src=menu.cfm></iframe>",
        );
        assert_eq!(page.title, "A page");
        let link = |href: &str, text: &str| Link { href: href.into(), text: text.into() };
        assert_eq!(page.links, [link("/AppA/index.cfm?do=logout&x=1", "Sign out"), link("menu.cfm", "")]);
        let [form] = page.forms.as_slice() else { panic!("{:?}", page.forms) };
        assert_eq!((form.action.as_str(), form.is_post, form.fields.len()), ("/admin/logout/", true, 4));
        assert_eq!(
            form.encoded(),
            "csrf=a%2Bb+%26+c",
            "what a person would fill in is not sent, nor a nameless button"
        );
        assert!(form.asks_for_password());
        assert!(!format!("{form:?}").contains("a+b"), "values are not shown");
    }

    #[test]
    fn a_named_button_is_pressed() {
        let page =
            Page::read(b"<form><input type=submit name=do value='Log out'><button name=no>x</button></form>");
        let form = page.forms.first().unwrap();
        assert_eq!((form.encoded().as_str(), form.is_post), ("do=Log+out", false));
    }

    #[test]
    fn references_are_resolved_within_the_origin() {
        let page = Page::default();
        let at = |reference| page.resolve("apps.example.org:8080", "/AppA/sub/index.cfm?a=1", reference);
        assert_eq!(at("next.cfm?x=1#top").as_deref(), Some("/AppA/sub/next.cfm?x=1"));
        assert_eq!(at("../../x/./y/..").as_deref(), Some("/x/"));
        assert_eq!(at("../../../../z").as_deref(), Some("/z"));
        assert_eq!(at("?page=2").as_deref(), Some("/AppA/sub/index.cfm?page=2"));
        assert_eq!(at("/AppB/").as_deref(), Some("/AppB/"));
        assert_eq!(at("/a b?\u{e9}=1").as_deref(), Some("/a%20b?%C3%A9=1"));
        assert_eq!(at("http://Apps.example.org:8080/q").as_deref(), Some("/q"));
        assert_eq!(at("//apps.example.org:8080").as_deref(), Some("/"));
        for elsewhere in
            ["http://evil.example/", "//evil.example/x", "mailto:a@b", "javascript:void(0)", "#top", ""]
        {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
        let based = Page { base: Some("/other/".into()), ..Page::default() };
        assert_eq!(based.resolve("a", "/AppA/x", "y").as_deref(), Some("/other/y"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_panic(html: Vec<u8>, reference: String) {
            let page = Page::read(&html);
            if let Some(path) = page.resolve("a", "/x/y", &reference) {
                proptest::prop_assert!(path.starts_with('/'));
            }
        }
    }
}
