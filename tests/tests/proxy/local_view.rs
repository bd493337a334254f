//! `http://NAME.cloak.localhost:PORT/`: for a browser with no proxy set, and for nobody's page else.

use cloak_tests::http::{Request, Response};
use cloak_tests::site::Site;

/// A request as a browser sends it to `host`.
fn ask(site: &Site, host: &str, request: Request) -> Response {
    let proxy = site.alice.proxy();
    request.header("Host", &format!("{host}:{}", proxy.port())).send(proxy)
}

#[test]
fn the_local_view_shows_the_service() {
    let site = Site::start();
    let response = ask(&site, "bob.cloak.localhost", Request::get("/bytes/5"));
    assert_eq!((response.status, response.body.len()), (200, 5));
    let request = site.services.http.last_request();
    assert_eq!(request.headers("host"), ["bob.cloak"]);
    let other = ask(&site, "8080.bob.cloak.localhost", Request::get("/bytes/6"));
    assert_eq!((other.status, other.body.len()), (200, 6));
    let unknown = ask(&site, "nobody.cloak.localhost", Request::get("/"));
    assert_eq!((unknown.status, unknown.header("cloak-error")), (502, Some("unknown-name")));
}

#[test]
fn foreign_page_cannot_reach_the_local_view() {
    let site = Site::start();
    let own = format!("http://bob.cloak.localhost:{}", site.alice.proxy().port());
    let get = || Request::get("/bytes/1");
    let upgrade = || {
        Request::get("/echo")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let navigation = |site: &str, method: &str, destination: &str| {
        Request::new(method, "/bytes/1")
            .header("Sec-Fetch-Site", site)
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Dest", destination)
    };
    let refused = [
        get().header("Sec-Fetch-Site", "cross-site").header("Sec-Fetch-Mode", "no-cors"),
        get().header("Sec-Fetch-Site", "same-site").header("Sec-Fetch-Mode", "cors"),
        get().header("Origin", "http://evil.example"),
        get().header("Origin", "null"),
        get().header("Origin", "http://evil.cloak.localhost"),
        get().header("Origin", &format!("{own}.evil.example")),
        Request::new("POST", "/hash").header("Origin", "http://evil.example").body(b"x"),
        navigation("cross-site", "POST", "document").body(b"x"),
        navigation("cross-site", "GET", "iframe"),
        upgrade().header("Origin", "http://evil.example"),
        upgrade().header("Origin", "http://evil.cloak.localhost"),
    ];
    for request in refused {
        let shown = format!("{request:?}");
        let response = ask(&site, "bob.cloak.localhost", request);
        assert_eq!(response.status, 403, "{shown}");
    }
    assert!(site.services.http.requests().is_empty(), "nothing of it reached the service");
    let allowed = [
        get().header("Sec-Fetch-Site", "none"),
        get().header("Sec-Fetch-Site", "same-origin").header("Origin", &own),
        navigation("cross-site", "GET", "document"),
    ];
    for request in allowed {
        let shown = format!("{request:?}");
        assert_eq!(ask(&site, "bob.cloak.localhost", request).status, 200, "{shown}");
    }
    assert_eq!(ask(&site, "bob.cloak.localhost", upgrade().header("Origin", &own)).status, 101);
}

#[test]
fn cookies_of_the_local_view_are_for_its_host_only() {
    let site = Site::shared();
    let cookie = ask(&site, "bob.cloak.localhost", Request::get("/cookie"));
    let value = cookie.header("set-cookie").unwrap().to_lowercase();
    assert!(value.starts_with("a=1") && !value.contains("domain"), "{value}");
}

#[test]
fn the_local_view_can_be_turned_off() {
    let site = Site::configured("[proxy]\nlocal_view = false\n", "");
    let response = ask(&site, "bob.cloak.localhost", Request::get("/bytes/5"));
    assert!((400..500).contains(&response.status), "{response:?}");
    assert!(site.services.http.requests().is_empty());
    let proxied = Request::get("http://bob.cloak/bytes/5").send(site.alice.proxy());
    assert_eq!(proxied.status, 200);
}
