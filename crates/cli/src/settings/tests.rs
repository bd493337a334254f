use cloak_gateway::Route;

use super::*;

fn mistake(text: &str, flags: &Up) -> String {
    match Settings::parse(text, flags) {
        Err(Mistake::InFile(explained)) => explained,
        Err(Mistake::InFlags(conflict)) => conflict.to_string(),
        Ok(settings) => panic!("accepted: {settings:?}"),
    }
}

fn in_file(text: &str) -> String {
    mistake(text, &Up::default())
}

#[test]
fn unknown_keys_are_refused_with_line_and_column() {
    assert_eq!(
        in_file("[proxy]\nlisten = [\"127.0.0.1:1080\"]\nlocal_veiw = false\n"),
        "TOML parse error at line 3, column 1\n  |\n3 | local_veiw = false\n  | ^^^^^^^^^^\n\
         unknown field `local_veiw`, expected one of `listen`, `local_view`, `same_user`, `users`, \
         `handshake_timeout`, `open_timeout`, `connections_max`\n",
    );
    assert!(in_file("[porxy]\n").starts_with("TOML parse error at line 1, column 2\n"));
}

#[test]
fn values_of_the_wrong_form_are_refused_with_line_and_column() {
    for (text, place, message) in [
        ("[session]\nlinger = \"24 h\"", "line 2, column 10", "not a duration"),
        ("[session]\ntail = \"2MiB\"", "line 2, column 8", "a tail is 0, or 64KiB to 1MiB"),
        ("[session]\ntail = \"1\"", "line 2, column 8", "a tail is 0, or 64KiB to 1MiB"),
        ("[memory]\nmax = \"512MB\"", "line 2, column 7", "not a size"),
        ("[[service]]\nport = 70000", "line 2, column 8", "70000"),
        ("[log]\nformat = \"xml\"", "line 2, column 10", "`text` or `json`"),
        ("[proxy\n", "line 1, column 7", "unclosed table"),
    ] {
        let error = in_file(text);
        assert!(error.contains(place) && error.contains(message), "{text}: {error}");
    }
}

#[test]
fn conflicts_point_at_their_key() {
    assert_eq!(
        in_file("[proxy]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:2\"]"),
        "error at line 2, column 26\n  |\n2 | listen = [\"127.0.0.1:1\", \"0.0.0.0:2\"]\n  \
         |                          ^^^^^^^^^^^\n0.0.0.0:2 is reachable from other machines, so \
         [proxy] users must be configured: an open proxy would let anyone in as you. Listen on \
         127.0.0.1, or add users",
    );
    for (text, place, message) in [
        ("[proxy]\nlisten = []", "line 2, column 10", "at least one address"),
        ("[[service]]\nport = 0\ntarget = \"a:1\"", "line 2, column 8", "from 1 to 65535"),
        (
            "[[service]]\nport = 1\ntarget = \"a:1\"\n[[service]]\nport = 1\ntarget = \"b:1\"",
            "line 5, column 8",
            "port 1 is exposed twice",
        ),
        ("[aliases]\ndb = \"example.com\"", "line 2, column 6", "must stand for a .cloak name"),
        ("[log]\nlevel = \"info=loud\"", "line 2, column 9", "not a log level"),
    ] {
        let error = in_file(text);
        assert!(error.contains(place) && error.contains(message), "{text}: {error}");
    }
}

#[test]
fn non_loopback_without_auth_refuses_to_start() {
    let flags = Up { proxy: vec!["0.0.0.0:1080".parse().unwrap()], ..Up::default() };
    assert!(mistake("", &flags).contains("[proxy] users must be configured"));
    let users = "[proxy]\nusers = [{ name = \"ann\", password_file = \"/p\" }]";
    assert!(Settings::parse(users, &flags).is_ok());
}

#[test]
fn flags_add_to_the_file_and_replace_its_silence() {
    let flags = Up {
        proxy: vec!["127.0.0.1:2080".parse().unwrap()],
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        advertise: vec!["192.0.2.1:7140".parse().unwrap()],
        expose: vec!["80=127.0.0.1:8080".parse().unwrap()],
        peer: vec!["192.0.2.2:7140".to_owned()],
        config: None,
    };
    let silent = Settings::parse("", &flags).unwrap();
    assert_eq!(silent.proxy.listen, flags.proxy);
    assert_eq!(silent.node.overlay.listen, flags.listen);
    assert_eq!(silent.node.overlay.peers, flags.peer);
    assert_eq!(silent.services, [flags.expose[0].to_service()]);

    let text = "[proxy]\nlisten = [\"127.0.0.1:1\"]\n[overlay]\nadvertise = [\"192.0.2.3:1\"]";
    let said = Settings::parse(text, &flags).unwrap();
    assert_eq!(said.proxy.listen, ["127.0.0.1:1", "127.0.0.1:2080"].map(|a| a.parse().unwrap()));
    assert_eq!(said.node.overlay.advertise.len(), 2);
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let settings = Settings::parse("", &Up::default()).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.proxy.listen[0].to_string(), "127.0.0.1:1080");
    assert_eq!(settings.node.overlay.listen[0].to_string(), "[::]:7140");
}

/// The file in docs/guide/configuration.md, with every key.
#[test]
fn the_documented_file_is_accepted() {
    let page = include_str!("../../../../docs/guide/configuration.md");
    let file = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let settings =
        Settings::parse(file, &Up::default()).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(settings.outbound.default, Route::Direct);
    assert_eq!(settings.services.len(), 2);
}
