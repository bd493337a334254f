//! A real browser: with the proxy set, and with the local view.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cloak_tests::clock::{every, holds_for, wait_until};
use cloak_tests::need;
use cloak_tests::origin::HttpOrigin;
use cloak_tests::pair::Pair;
use cloak_tests::realm::Realm;
use cloak_tests::site::{Services, Site};
use cloak_tests::webdriver::Browser;

const SOON: Duration = Duration::from_secs(20);

/// A `[proxy]` section with the user `ann`, password `s3cret-word`.
fn users(realm: &Realm) -> String {
    let file = realm.directory().join("password");
    fs::write(&file, "s3cret-word\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    format!("[proxy]\nusers = [{{ name = \"ann\", password_file = \"{}\" }}]\n", file.display())
}

fn ticked(browser: &Browser) -> i64 {
    browser.value("window.last").as_i64().unwrap_or(-1)
}

/// Opens a page whose WebSocket counts, and cuts transports under it.
fn ticks_over_cuts(site: &Site, browser: &Browser, url: &str) {
    browser.open(url).unwrap();
    wait_until("the page ticks", SOON, || ticked(browser) > 5);
    every(Duration::from_millis(300), Duration::from_secs(3), || site.cut());
    let before = ticked(browser);
    wait_until("the page ticks on", SOON, || ticked(browser) > before + 20);
    assert_eq!(browser.value("window.ended"), 0, "the page's WebSocket never closed");
    assert_eq!(browser.value("window.wrong"), 0, "no tick was lost or doubled");
}

#[test]
fn a_page_ticks_over_cuts_with_the_proxy_set() {
    need!("chromium", "chromedriver");
    let site = Site::start();
    let proxy = format!("socks5://{}", site.alice.proxy());
    let browser = Browser::start(site.realm.directory(), Some(&proxy));
    ticks_over_cuts(&site, &browser, "http://bob.cloak/page");
    let error = browser.open("http://nobody.cloak/").unwrap_err();
    assert!(error.0.contains("ERR_SOCKS_CONNECTION"), "{error:?}");
}

#[test]
fn a_page_ticks_over_cuts_with_an_http_proxy_set() {
    need!("chromium", "chromedriver");
    let site = Site::start();
    let proxy = format!("http://{}", site.alice.proxy());
    let browser = Browser::start(site.realm.directory(), Some(&proxy));
    ticks_over_cuts(&site, &browser, "http://bob.cloak/page");
    browser.open("http://nobody.cloak/").unwrap();
    let shown = browser.value("document.body.innerText").to_string();
    assert!(shown.contains("unknown-name"), "a page for people: {shown}");
}

/// Chromium is told 407, asks its user, and gets the page; its WebSockets use what it learned.
#[test]
fn chrome_can_authenticate() {
    need!("chromium", "chromedriver");
    let realm = Realm::new();
    let toml = users(&realm);
    let services = Services::start();
    let pair = Pair::start_configured(realm, &services.up(), &toml, "");
    let site = Site { pair, services };
    let proxy = format!("http://{}", site.alice.proxy());
    let browser = Browser::start(site.realm.directory(), Some(&proxy));
    let wrong = browser.answer_challenges("ann", "guessed");
    let none = || site.services.http.requests().is_empty();
    let _ = browser.open("http://bob.cloak/page");
    wait_until("Chromium is asked again and again", SOON, || wrong.by_proxies() >= 2);
    assert!(none(), "nothing was forwarded");
    drop((wrong, browser));

    let again = site.realm.directory().join("again");
    fs::create_dir(&again).unwrap();
    let browser = Browser::start(&again, Some(&proxy));
    let user = browser.answer_challenges("ann", "s3cret-word");
    ticks_over_cuts(&site, &browser, "http://bob.cloak/page");
    assert_eq!(user.by_proxies(), 1, "one 407, then Chromium remembers");
    assert_eq!(site.services.http.requests()[0].headers("proxy-authorization").len(), 0);
}

#[test]
fn a_page_ticks_over_cuts_in_the_local_view() {
    need!("chromium", "chromedriver");
    let site = Site::start();
    let browser = Browser::start(site.realm.directory(), None);
    let port = site.alice.proxy().port();
    ticks_over_cuts(&site, &browser, &format!("http://bob.cloak.localhost:{port}/page"));
    assert_eq!(browser.value("window.isSecureContext"), true);
    let request = site.services.http.requests().into_iter().next().unwrap();
    assert_eq!(request.headers("host"), ["bob.cloak"]);
}

#[test]
fn a_foreign_page_cannot_reach_the_local_view() {
    need!("chromium", "chromedriver");
    let site = Site::start();
    let foreign = HttpOrigin::start();
    let browser = Browser::start(site.realm.directory(), None);
    let target = format!("bob.cloak.localhost:{}", site.alice.proxy().port());
    browser.open(&format!("http://{}/page", foreign.address())).unwrap();
    let attempts = format!(
        "const done = arguments[0], log = [];\
         const url = 'http://{target}/bytes/1';\
         const socket = new WebSocket('ws://{target}/echo');\
         socket.onopen = () => log.push('websocket'); socket.onerror = () => {{}};\
         const image = new Image(); image.src = url;\
         const frame = document.createElement('iframe'); frame.src = url;\
         document.documentElement.appendChild(frame);\
         const script = document.createElement('script'); script.src = url;\
         document.documentElement.appendChild(script);\
         navigator.sendBeacon('http://{target}/hash', 'x');\
         Promise.allSettled([fetch(url), fetch(url, {{ mode: 'no-cors' }}),\
           fetch('http://{target}/hash', {{ method: 'POST', mode: 'no-cors', body: 'x' }})])\
         .then(all => setTimeout(() => done(log.concat(all.map(one =>\
           one.status + ':' + (one.value ? one.value.type + one.value.status : '')))), 1500));"
    );
    let outcome = browser.run_async(&attempts).unwrap().to_string();
    let none = || site.services.http.requests().is_empty();
    holds_for("nothing reaches the service", Duration::from_secs(1), none);
    assert!(!outcome.contains("websocket") && !outcome.contains("200"), "{outcome}");
    // The control: a person who follows a link gets there.
    browser.open(&format!("http://{target}/page")).unwrap();
    wait_until("the page ticks", SOON, || ticked(&browser) > 3);
}
