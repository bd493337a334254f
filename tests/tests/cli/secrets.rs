//! Keys, passwords, invitations and payload appear nowhere but where they belong.

use std::fs;
use std::path::Path;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::gateway::Up;
use cloak_tests::http::Request;
use cloak_tests::pair::Pair;
use cloak_tests::realm::Realm;
use cloak_tests::site::{Services, port};
use data_encoding::{BASE32_NOPAD, BASE64_NOPAD, HEXLOWER};

const PASSWORD: &str = "correct-horse-battery";
const PAYLOAD: &[u8] = b"the-payload-of-an-application";

/// How a secret could look in a log.
fn spellings(secret: &[u8]) -> Vec<String> {
    let list: Vec<String> = secret.iter().take(16).map(ToString::to_string).collect();
    vec![
        HEXLOWER.encode(secret),
        BASE32_NOPAD.encode(secret).to_lowercase(),
        BASE64_NOPAD.encode(secret).to_lowercase(),
        list.join(", "),
        String::from_utf8_lossy(secret).trim().to_lowercase(),
    ]
}

/// Contents of every file that has `key` in its name.
fn keys(home: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(keys(&path));
        } else if path.to_string_lossy().contains("key") {
            found.push(fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn secrets_are_never_printed() {
    let realm = Realm::new();
    let password = realm.directory().join("password");
    fs::write(&password, PASSWORD).unwrap();
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let trace = "[log]\nlevel = \"trace\"\n";
    let users = format!(
        "{trace}[proxy]\nusers = [{{ name = \"ann\", password_file = \"{}\" }}]\n",
        password.display()
    );
    let services = Services::start();
    let pair = Pair::start_configured(realm, &services.up(), &users, trace);
    let invitation = pair.alice.invite("carol");
    pair.realm.empty("carol").join(&invitation);
    pair.realm.empty("carol").configure(trace);
    let carol = pair.realm.empty("carol").up(&Up::default());
    let mut stream = client::socks5(carol.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, PAYLOAD);
    let login = BASE64_NOPAD.encode(format!("ann:{PASSWORD}").as_bytes());
    let padded = format!("Basic {login}{}", "=".repeat((4 - login.len() % 4) % 4));
    let answer = Request::new("POST", "http://bob.cloak/hash")
        .header("Proxy-Authorization", &padded)
        .body(PAYLOAD)
        .send(pair.alice.proxy());
    assert_eq!(answer.status, 200);
    pair.cut();
    assert_echo(&mut stream, PAYLOAD);
    let logs = [&pair.alice, &pair.bob, &carol].map(|gateway| gateway.log().to_lowercase());
    assert!(logs.iter().all(|log| log.contains("trace")), "the logs are at trace level");
    let mut secrets = vec![PASSWORD.as_bytes().to_vec(), PAYLOAD.to_vec(), login.into_bytes()];
    secrets.push(invitation.into_bytes());
    for gateway in [&pair.alice, &pair.bob, &carol] {
        let found = keys(gateway.directory());
        assert!(!found.is_empty(), "a home holds keys");
        secrets.extend(found);
    }
    for spelling in secrets.iter().filter(|secret| secret.len() >= 16).flat_map(|s| spellings(s)) {
        for log in &logs {
            assert!(!log.contains(&spelling), "a secret is printed: {spelling}");
        }
    }
}
