//! Numbers and addresses as text, without the formatter, which takes some ten times as long: every request has a few.

use std::io::Write as _;
use std::net::IpAddr;

/// Appends `number` in decimal digits.
pub fn number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = digit_of(left);
        }
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends the last three digits of `number`, zeros included.
pub fn three(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&[digit_of(number / 100), digit_of(number / 10), digit_of(number)]);
}

/// Appends an address as `Display` writes it.
pub fn address(out: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        // A Vec takes everything.
        let _ = write!(out, "{address}");
        return;
    };
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        number(out, octet.into());
    }
}

/// The last digit.
const fn digit_of(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_the_formatter_writes(value: u64, v4: u32, v6: u128) {
            let mut out = Vec::new();
            number(&mut out, value);
            out.push(b' ');
            three(&mut out, value);
            for one in [IpAddr::V4(Ipv4Addr::from(v4)), IpAddr::V6(Ipv6Addr::from(v6))] {
                out.push(b' ');
                address(&mut out, one);
            }
            let expected = format!("{value} {:03} {} {}", value % 1000, Ipv4Addr::from(v4), Ipv6Addr::from(v6));
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
