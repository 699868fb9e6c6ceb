//! What is shown of a person's browser: the family it is of and the net it is in.
//!
//! Invariant: no text of a request is ever shown; a family is a word from a list.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a User-Agent has in it, and its family; the first that fits. Chrome says Safari, Edge and Opera say Chrome, and
/// all of them say Mozilla.
const FAMILIES: [(&str, &str); 22] = [
    ("bot", "bot"),
    ("crawler", "bot"),
    ("spider", "bot"),
    ("edg", "Edge"),
    ("opr/", "Opera"),
    ("opera", "Opera"),
    ("samsungbrowser", "Samsung"),
    ("firefox", "Firefox"),
    ("fxios", "Firefox"),
    ("seamonkey", "SeaMonkey"),
    ("chrome", "Chrome"),
    ("crios", "Chrome"),
    ("chromium", "Chrome"),
    ("safari", "Safari"),
    ("trident", "IE"),
    ("msie", "IE"),
    ("coldfusion", "ColdFusion"),
    ("httpclient", "HttpClient"),
    ("python", "Python"),
    ("java", "Java"),
    ("curl", "curl"),
    ("wget", "Wget"),
];

/// The family of a browser by its User-Agent: a word from a list, `other` for what is not in it.
pub(super) fn family(user_agent: &[u8]) -> &'static str {
    let lower = user_agent.to_ascii_lowercase();
    let says = |word: &str| memchr::memmem::find(&lower, word.as_bytes()).is_some();
    FAMILIES.iter().find(|(word, _)| says(word)).map_or("other", |(_, family)| family)
}

/// The net that an address is in: its first 24 bits, of IPv6 the first 48.
pub(super) fn net(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let net = Ipv4Addr::from_bits(address.to_bits() & (!0 << 8));
            format!("{net}/24")
        }
        IpAddr::V6(address) => {
            let net = Ipv6Addr::from_bits(address.to_bits() & (!0 << 80));
            format!("{net}/48")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_a_word_from_the_list_whatever_the_browser_says() {
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36";
        for (agent, expected) in [
            (chrome, "Chrome"),
            (&*format!("{chrome} Edg/130.0.0.0"), "Edge"),
            (&*format!("{chrome} OPR/116.0.0.0"), "Opera"),
            ("Mozilla/5.0 (Windows NT 10.0; rv:132.0) Gecko/20100101 Firefox/132.0", "Firefox"),
            (
                "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15",
                "Safari",
            ),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)", "IE"),
            ("Jakarta Commons-HttpClient/3.1", "HttpClient"),
            ("<script>alert(1)</script>", "other"),
            ("", "other"),
        ] {
            assert_eq!(family(agent.as_bytes()), expected, "{agent}");
        }
        assert_eq!(family(b"\xff\x00 cURL/8"), "curl");
    }

    #[test]
    fn an_address_is_shown_as_its_net() {
        for (address, expected) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ] {
            assert_eq!(net(address.parse().unwrap()), expected);
        }
    }
}
