//! Addresses as people write them: `host:port`.

use crate::limits::ADDRESS_BYTES_MAX;

/// Host and port of `host:port`, where somebody can be reached: the host a name, an IPv4 address, or an IPv6 address in brackets
/// (which stay), the port 1 to 65535. `None` when it is nothing of the kind. Whether the host exists is the resolver's to say.
pub fn host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    // "+7" is a number to the standard library.
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port > 0)?;
    let within = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|within| within.contains(':'))?,
        // An IPv6 address without brackets: nobody can tell its end from a port.
        None if host.contains(':') => return None,
        None => host,
    };
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '/' | '=');
    let is_host = !within.is_empty() && !within.contains(strange) && text.len() <= ADDRESS_BYTES_MAX;
    is_host.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_split() {
        let longest = format!("{}:1", "h".repeat(ADDRESS_BYTES_MAX - 2));
        for (text, host, port) in [
            ("master-1.example.com:9400", "master-1.example.com", 9400),
            ("127.0.0.1:1", "127.0.0.1", 1),
            ("[::1]:65535", "[::1]", 65535),
            ("[fe80::1%eth0]:9400", "[fe80::1%eth0]", 9400),
            ("bücher.example:9400", "bücher.example", 9400),
            (&longest, &longest[..ADDRESS_BYTES_MAX - 2], 1),
        ] {
            assert_eq!(host_port(text), Some((host, port)), "{text}");
        }
    }

    #[test]
    fn what_nobody_can_be_reached_at_is_refused() {
        let too_long = format!("{}:1", "h".repeat(ADDRESS_BYTES_MAX));
        for text in [
            "",
            ":",
            ":9400",
            "host",
            "host:",
            "host:x",
            "host:-1",
            "host:+7",
            "host: 7",
            "host:0",
            "host:65536",
            "host:99999999999999999999",
            "::1",
            "::1:9400",
            "fe80::1:9400",
            "[::1]",
            "[::1]:",
            "[::1]:0",
            "[]:1",
            "[host]:1",
            "[::1:9400",
            "::1]:9400",
            "[[::1]]:1",
            "a b:1",
            "a\n:1",
            "http://host:1",
            "1=host:1",
            &too_long,
        ] {
            assert_eq!(host_port(text), None, "{text:?}");
        }
    }
}
