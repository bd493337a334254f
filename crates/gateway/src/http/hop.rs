//! Fields that concern one connection only and do not travel.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Whether a request asks for another protocol.
pub(super) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE) && connection_tokens(headers).any(|it| it == "upgrade")
}

/// Removes the fields that concern one connection only; of an upgrade, its own two stay.
pub(super) fn strip(headers: &mut HeaderMap, upgrade: bool) {
    let named: Vec<String> = connection_tokens(headers).collect();
    for name in named.iter().filter(|name| *name != "upgrade" && *name != "host") {
        headers.remove(name.as_str());
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(header::UPGRADE);
    }
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let values = headers.get_all(header::CONNECTION).iter();
    let lists = values.filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| !token.is_empty())
}

/// `transfer-encoding` is among them: hyper frames each side anew.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn named_and_known_fields_go_and_others_stay() {
        let mut map = headers(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("authorization", "Basic y"),
        ]);
        strip(&mut map, false);
        assert_eq!(map, headers(&[("authorization", "Basic y")]));
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_keeps_them() {
        let mut map = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert!(wants_upgrade(&map));
        strip(&mut map, true);
        assert_eq!(map, headers(&[("upgrade", "websocket"), ("connection", "upgrade")]));
        assert!(!wants_upgrade(&headers(&[("upgrade", "websocket")])));
    }
}
