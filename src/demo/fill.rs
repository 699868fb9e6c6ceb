//! Texts with places to fill in.
//!
//! Invariant: what is filled in is never looked at again, so that no value can open another place.

/// `{{name}}` in `template` becomes the value of that name; a name that has none becomes nothing.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once("}}") else {
            out.push_str("{{");
            rest = after;
            continue;
        };
        out.extend(values.iter().find(|(key, _)| *key == name).map(|(_, value)| *value));
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Text as HTML, in attributes as well.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_once() {
        let values = [("a", "{{b}}"), ("b", "2")];
        assert_eq!(fill("<{{a}}|{{b}}|{{c}}>", &values), "<{{b}}|2|>");
        assert_eq!(fill("{{a", &values), "{{a");
        assert_eq!(fill("", &values), "");
    }

    #[test]
    fn no_value_opens_a_tag() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
