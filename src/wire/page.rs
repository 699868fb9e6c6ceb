//! What an HTML page offers to go on with: its links and its forms, and where they lead.
//!
//! Read with a tokenizer of the HTML standard, not with searches in text: entities are decoded, and nothing inside a
//! comment, a script or a style counts. Lossy by purpose, and so never used on a page that passes to a browser.
//!
//! Invariant: what a page costs is bounded, whatever is on it: so many links and forms, each leading so far.

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{HtmlString, StartTag, Token, Tokenizer};

/// Octets of a reference that are read; browsers go further, apps do not.
const REFERENCE_LIMIT: usize = 8 * 1024;
/// So many links of a page count; those behind are not looked at.
const MOST_LINKS: usize = 2_000;
/// So many forms count.
const MOST_FORMS: usize = 200;

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
    /// True where it is disabled, itself or by a `<fieldset>` around it: it is not sent and not pressed.
    pub is_disabled: bool,
    /// `formaction` of a button, as written; where it is there, it stands for the form's action.
    pub action: Option<String>,
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
    /// The body (or query) that sends this form as a person would who only presses its button: hidden fields, and the
    /// button, where it has a name; of those, the ones whose name is `wanted`. `application/x-www-form-urlencoded` in UTF-8.
    #[must_use]
    pub fn encoded(&self, wanted: impl Fn(&str) -> bool) -> String {
        let hidden = self.enabled().filter(|field| field.kind == FieldKind::Hidden);
        let sent = hidden.chain(self.pressed()).filter(|field| !field.name.is_empty() && wanted(&field.name));
        let mut out = String::new();
        for field in sent {
            if !out.is_empty() {
                out.push('&');
            }
            encode(&mut out, &field.name);
            out.push('=');
            encode(&mut out, &field.value);
        }
        out
    }

    /// Where it goes when its button is pressed, as written; empty: the page's own URL.
    #[must_use]
    pub fn leads_to(&self) -> &str {
        self.pressed().and_then(|button| button.action.as_deref()).unwrap_or(&self.action)
    }

    /// The button that is pressed: the first that has a name, else the first.
    fn pressed(&self) -> Option<&Field> {
        let buttons = || self.enabled().filter(|field| field.kind == FieldKind::Submit);
        buttons().find(|field| !field.name.is_empty()).or_else(|| buttons().next())
    }

    fn enabled(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.is_disabled)
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
        self.from(authority, path).link(reference)
    }

    /// Where references on the page at `path` (with its query) of `authority` lead from: for many of them.
    #[must_use]
    pub fn from<'a>(&self, authority: &'a str, path: &'a str) -> Base<'a> {
        Base { authority, path, base: self.base.as_deref().and_then(|base| resolve(authority, path, base)) }
    }
}

/// Where the references of one page lead from.
#[derive(Clone, Debug)]
pub struct Base<'a> {
    authority: &'a str,
    path: &'a str,
    /// What `<base href>` names, where it names something of this origin.
    base: Option<String>,
}

impl Base<'_> {
    /// As [`Page::resolve`].
    #[must_use]
    pub fn link(&self, reference: &str) -> Option<String> {
        resolve(self.authority, self.base.as_deref().unwrap_or(self.path), reference)
    }

    /// Where a form with this action goes: to the page itself for nothing at all or only a place on it, else as a link.
    #[must_use]
    pub fn action(&self, action: &str) -> Option<String> {
        match action.split('#').next() {
            None | Some("") => Some(self.path.to_owned()),
            Some(_) => self.link(action),
        }
    }
}

/// Reading, between two tokens.
#[derive(Default)]
struct Reader {
    page: Page,
    /// The link that text belongs to.
    link: Option<Link>,
    in_form: bool,
    /// True while controls belong to the last form of the page, and not to one that is left out.
    form_counts: bool,
    /// How many `<fieldset>`s are open since one that is disabled, itself included.
    disabled: usize,
    in_title: bool,
}

impl Reader {
    fn start(&mut self, tag: &StartTag<()>) {
        match tag.name.as_slice() {
            b"title" => self.in_title = self.page.title.is_empty(),
            b"base" => self.page.base = self.page.base.take().or_else(|| reference(tag, "href")),
            b"a" | b"area" => {
                self.close_link();
                if let Some(href) = reference(tag, "href") {
                    self.link = Some(Link { href, text: String::new() });
                }
            }
            b"frame" | b"iframe" => {
                if let Some(href) = reference(tag, "src") {
                    self.put(Link { href, text: String::new() });
                }
            }
            b"form" if !self.in_form => self.form(tag),
            b"fieldset" if self.disabled > 0 || attribute(tag, "disabled").is_some() => self.disabled += 1,
            b"input" | b"button" | b"select" | b"textarea" if self.in_form => self.control(tag),
            _ => {}
        }
    }

    fn form(&mut self, tag: &StartTag<()>) {
        self.in_form = true;
        let action = attribute(tag, "action").unwrap_or_default();
        self.form_counts = action.len() <= REFERENCE_LIMIT && self.page.forms.len() < MOST_FORMS;
        if self.form_counts {
            let is_post = attribute(tag, "method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
            self.page.forms.push(Form { action, is_post, fields: Vec::new() });
        }
    }

    fn control(&mut self, tag: &StartTag<()>) {
        let Some(form) = self.page.forms.last_mut().filter(|_| self.form_counts) else { return };
        let action = attribute(tag, "formaction");
        // A button that leads further than is read is none that can be pressed.
        let too_far = action.as_ref().is_some_and(|action| action.len() > REFERENCE_LIMIT);
        form.fields.push(Field {
            name: raw(tag, "name"),
            value: raw(tag, "value"),
            kind: kind(&tag.name, attribute(tag, "type").as_deref()),
            is_disabled: too_far || self.disabled > 0 || attribute(tag, "disabled").is_some(),
            action: action.filter(|_| !too_far),
        });
    }

    fn end(&mut self, name: &HtmlString) {
        match name.as_slice() {
            b"a" => self.close_link(),
            b"form" => self.in_form = false,
            b"fieldset" => self.disabled = self.disabled.saturating_sub(1),
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
            self.put(link);
        }
    }

    fn put(&mut self, link: Link) {
        if self.page.links.len() < MOST_LINKS {
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

/// As [`attribute`], of what leads somewhere; `None` also where it is longer than is read.
fn reference(tag: &StartTag<()>, name: &str) -> Option<String> {
    attribute(tag, name).filter(|reference| reference.len() <= REFERENCE_LIMIT)
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
            form.encoded(|_| true),
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
        assert_eq!((form.encoded(|_| true).as_str(), form.is_post), ("do=Log+out", false));
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

    #[test]
    fn what_is_too_long_or_too_much_does_not_count() {
        let long = "x".repeat(REFERENCE_LIMIT + 1);
        let page = Page::read(
            format!(
                "<base href=/{long}><a href={long}>a</a><a href=b>b</a>\
                 <form action={long}><input type=hidden name=a></form>\
                 <form action=ok><button name=far formaction={long}></button><button name=near></form>"
            )
            .as_bytes(),
        );
        assert_eq!(page.resolve("a", "/x/", "b").as_deref(), Some("/x/b"));
        assert_eq!(page.links.iter().map(|link| link.href.as_str()).collect::<Vec<_>>(), ["b"]);
        let [form] = page.forms.as_slice() else { panic!("{}", page.forms.len()) };
        assert_eq!((form.leads_to(), form.encoded(|_| true).as_str()), ("ok", "near="));
        let many = Page::read("<a href=x>x</a><iframe src=y></iframe>".repeat(MOST_LINKS).as_bytes());
        assert_eq!(many.links.len(), MOST_LINKS);
        let html = format!("{}<form><input name=last></form>", "<form></form>".repeat(MOST_FORMS));
        let many = Page::read(html.as_bytes());
        assert_eq!(many.forms.len(), MOST_FORMS);
        assert!(many.forms.iter().all(|form| form.fields.is_empty()), "no form takes another's fields");
    }

    #[test]
    fn a_form_goes_where_its_pressed_button_says_and_disabled_controls_stay() {
        let form = |html: &str| Page::read(html.as_bytes()).forms.remove(0);
        let one = form(
            "<form action=a><input type=hidden name=h value=1 disabled><fieldset disabled><fieldset></fieldset>
             <button name=off formaction=b></fieldset><fieldset><button name=on value=2 formaction=c>",
        );
        assert_eq!((one.leads_to(), one.encoded(|_| true).as_str()), ("c", "on=2"));
        assert_eq!(form("<form action=a><button formaction=' b '>").leads_to(), "b");
        assert_eq!(form("<form action=a><button>").leads_to(), "a");
        let two = form("<form><input type=hidden name=x value=1><input type=hidden name=y value=2>");
        assert_eq!(two.encoded(|name| name != "x"), "y=2");
    }

    #[test]
    fn an_action_that_is_only_a_place_is_the_page_itself() {
        let page = Page { base: Some("/base/".into()), ..Page::default() };
        let from = page.from("a", "/x/y?q=1");
        for itself in ["", "#", "#top"] {
            assert_eq!(from.action(itself).as_deref(), Some("/x/y?q=1"), "{itself}");
            assert_eq!(from.link(itself), None, "{itself}");
        }
        assert_eq!(from.action("out#x").as_deref(), Some("/base/out"));
        assert_eq!(from.action("//evil.example/#x"), None);
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
