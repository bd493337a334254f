//! Programs that use the proxy: do they ask DNS for `.cloak` names before the proxy is asked.
//!
//! `socks5://` means that the program resolves the name by itself; for a `.cloak` name that both
//! fails and tells a DNS server what was looked for.

use std::path::PathBuf;
use std::{env, fs};

use super::Finding;

/// Variables in which programs look for a proxy.
const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];

pub(super) fn check() -> Vec<Finding> {
    let set = PROXY_VARIABLES.iter().filter_map(|name| Some((*name, env::var(name).ok()?)));
    let mut findings = environment(set);
    findings.extend(proxychains_files().iter().filter_map(|path| {
        Some(proxychains(&path.display().to_string(), &fs::read_to_string(path).ok()?))
    }));
    findings.extend(fs::read_to_string("/etc/hosts").ok().and_then(|text| hosts(&text)));
    let resolver = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    findings.push(name_service(&resolver));
    findings
}

fn environment(set: impl Iterator<Item = (&'static str, String)>) -> Vec<Finding> {
    let leaks: Vec<_> = set.filter_map(|(name, value)| leak(name, &value)).collect();
    match leaks.is_empty() {
        true => vec![Finding::ok("environment", "no proxy variable makes programs ask DNS")],
        false => leaks,
    }
}

fn leak(name: &str, value: &str) -> Option<Finding> {
    let better =
        [("socks5://", "socks5h://"), ("socks4://", "socks4a://"), ("socks://", "socks5h://")]
            .into_iter()
            .find_map(|(scheme, better)| {
                Some(format!("{better}{}", value.strip_prefix(scheme)?))
            })?;
    Some(Finding::warn(
        "environment",
        format!("{name} makes programs resolve names by themselves, so .cloak names reach DNS"),
        // A password may stand before the @.
        match better.contains('@') {
            true => format!("write socks5h:// instead of socks5:// in {name}"),
            false => format!("export {name}={better}"),
        },
    ))
}

fn proxychains_files() -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let own = home.map(|home| home.join(".proxychains/proxychains.conf"));
    let system = ["/etc/proxychains4.conf", "/etc/proxychains.conf"].map(PathBuf::from);
    own.into_iter().chain(system).collect()
}

fn proxychains(path: &str, text: &str) -> Finding {
    let proxied = text.lines().any(|line| line.trim_start().starts_with("proxy_dns"));
    match proxied {
        true => Finding::ok("proxychains", format!("{path} resolves names through the proxy")),
        false => Finding::warn(
            "proxychains",
            format!("{path} lets programs ask DNS"),
            "add a line `proxy_dns` to it",
        ),
    }
}

fn hosts(text: &str) -> Option<Finding> {
    let listed = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .find_map(|line| line.split_whitespace().skip(1).find(|name| name.ends_with(".cloak")))?;
    Some(Finding::warn(
        "hosts",
        format!("/etc/hosts gives {listed} an address, so programs go there and not to the proxy"),
        "remove that line",
    ))
}

/// What happens to a `.cloak` name in a program that was not told to use the proxy.
fn name_service(nsswitch: &str) -> Finding {
    let sources = nsswitch.lines().find_map(|line| line.trim().strip_prefix("hosts:"));
    let asks_dns = sources.is_none_or(|sources| {
        sources.split_whitespace().any(|source| matches!(source, "dns" | "resolve"))
    });
    match asks_dns {
        true => Finding {
            advice: Some(cloak_gateway::SOCKS5H_HINT.to_owned()),
            ..Finding::ok(
                "dns",
                "Cloak asks no DNS server, but programs that do not use the proxy ask the system's",
            )
        },
        false => Finding::ok("dns", "this machine asks no DNS server"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn socks5_not_h_is_explained() {
        let found = environment([("ALL_PROXY", "socks5://127.0.0.1:1080".to_owned())].into_iter());
        assert_eq!(found[0].level, Level::Warn);
        assert_eq!(found[0].advice.as_deref(), Some("export ALL_PROXY=socks5h://127.0.0.1:1080"));
        let fine = [
            ("ALL_PROXY", "socks5h://127.0.0.1:1080".to_owned()),
            ("http_proxy", "http://127.0.0.1:1080".to_owned()),
        ];
        assert_eq!(environment(fine.into_iter())[0].level, Level::Ok);
        assert!(leak("ALL_PROXY", "socks4://127.0.0.1:1080").is_some());
    }

    #[test]
    fn secrets_are_never_printed() {
        let found = leak("ALL_PROXY", "socks5://ann:hunter2@127.0.0.1:1080").unwrap();
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn leaks_are_found_in_files() {
        assert_eq!(proxychains("f", "strict_chain\nproxy_dns\n").level, Level::Ok);
        assert_eq!(proxychains("f", "#proxy_dns\nsocks5 127.0.0.1 1080\n").level, Level::Warn);
        assert!(hosts("127.0.0.1 localhost\n10.0.0.1 a bob.cloak # x\n").is_some());
        assert!(hosts("127.0.0.1 localhost # bob.cloak\n").is_none());
        assert!(name_service("hosts: files dns").advice.is_some());
        assert!(name_service("").advice.is_some());
        assert!(name_service("hosts: files").advice.is_none());
    }
}
