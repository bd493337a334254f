//! Who may use the proxy port.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use cloak_tests::gateway::Up;
use cloak_tests::http::Request;
use cloak_tests::need;
use cloak_tests::process::{self, Finished};
use cloak_tests::realm::Realm;
use cloak_tests::site::Site;
use cloak_tests::skip::{Need, program};

/// A `[proxy]` section with the user `ann`, password `s3cret-word`.
pub(crate) fn users(realm: &Realm) -> String {
    let file = realm.directory().join("password");
    fs::write(&file, "s3cret-word\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    format!("[proxy]\nusers = [{{ name = \"ann\", password_file = \"{}\" }}]\n", file.display())
}

fn curl(arguments: &[&str]) -> Finished {
    let mut command = Command::new(program("curl").unwrap());
    command.args(["--silent", "--max-time", "30", "--noproxy", ""]).args(arguments);
    process::run(command, b"", Duration::from_secs(40))
}

#[test]
fn users_are_asked_for_their_password() {
    need!("curl");
    let realm = Realm::new();
    let toml = users(&realm);
    let services = cloak_tests::site::Services::start();
    let pair = cloak_tests::pair::Pair::start_configured(realm, &services.up(), &toml, "");
    let proxy = pair.alice.proxy();
    let url = "http://bob.cloak/bytes/4";
    let asked = Request::get(url).send(proxy);
    assert_eq!(asked.status, 407);
    let challenge = asked.header("proxy-authenticate").unwrap();
    assert!(challenge.starts_with("Basic"), "chrome_can_authenticate: {challenge}");
    for scheme in ["socks5h", "http"] {
        let with = |login: &str| curl(&["--proxy", &format!("{scheme}://{login}{proxy}"), url]);
        assert_eq!(with("ann:s3cret-word@").stdout.len(), 4, "{scheme}");
        for wrong in ["", "ann:s3cret-wor@", "ann:@", "bob:s3cret-word@"] {
            let refused = with(wrong);
            let text = refused.text();
            assert!(refused.code != Some(0) || text.contains("407") || text.len() > 4, "{wrong}");
        }
    }
    assert_eq!(services.http.requests().len(), 2, "only the right password reached the service");
    let old = cloak_tests::client::socks4a(proxy, "bob.cloak", 80).unwrap_err();
    assert_eq!(old.reply(), 91, "SOCKS4a has no passwords");
}

#[test]
fn non_loopback_without_auth_refuses_to_start() {
    let realm = Realm::new();
    let home = realm.found("alice");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:1080"] {
        let refused = home.run(&["up", "--proxy", address, "--listen", "127.0.0.1:0"]).exits(2);
        let lines: Vec<&str> = refused.stderr.trim().lines().collect();
        assert!(refused.stderr.contains("users"), "says what to do: {lines:?}");
        assert_eq!(refused.text(), "", "nothing was ready");
    }
    home.configure(&users(&realm));
    let everywhere = Up { proxy: vec!["0.0.0.0:0".to_owned()], ..Up::default() };
    let mut gateway = home.up(&everywhere);
    gateway.stop();
}

#[test]
fn same_user_setting_refuses_other_users() {
    need!("curl", "setpriv", Need::Root);
    let site = Site::configured("[proxy]\nsame_user = true\n", "");
    let proxy = format!("socks5h://{}", site.alice.proxy());
    let own = curl(&["--proxy", &proxy, "http://bob.cloak/bytes/4"]);
    assert_eq!(own.stdout.len(), 4);
    let other = |proxy: &str| {
        let mut command = Command::new(program("setpriv").unwrap());
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(program("curl").unwrap());
        command.args(["--silent", "--max-time", "20", "--proxy", proxy]);
        command.arg("http://bob.cloak/bytes/4");
        process::run(command, b"", Duration::from_secs(30))
    };
    let refused = other(&proxy);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stdout.is_empty(), "{}", refused.text());
    // The control: without the setting the same user gets in.
    let open = Site::shared();
    assert_eq!(other(&format!("socks5h://{}", open.alice.proxy())).stdout.len(), 4);
}
