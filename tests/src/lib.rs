//! The harness of the whole-system tests: real `cloak` processes, real clients, real faults.
//!
//! Everything here panics with a sentence instead of returning an error: a harness that cannot do
//! its part fails the test that asked. Nothing is installed; what a machine lacks is skipped with
//! the reason, and with `CI=true` such a skip is a failure (see [`need!`]).
//!
//! | module | what it gives |
//! |---|---|
//! | [`clock`] | the only ways to wait: a condition with a deadline, and the pace of a load |
//! | [`process`] | child processes with deadlines, killed by id when dropped |
//! | [`binary`] | the `cloak` binary, built once per test process |
//! | [`realm`], [`gateway`], [`pair`] | homes, running gateways, two gateways with faults between |
//! | [`site`] | such a pair, with every kind of backend behind it |
//! | [`town`] | a realm of many gateways that joined through one another |
//! | [`hostile`] | a member that sends whatever bytes it likes |
//! | [`fault`] | a TCP proxy that misbehaves on command |
//! | [`netns`] | network namespaces with real packets, addresses and nft rules |
//! | [`mount`] | small file systems to be filled |
//! | [`origin`] | backends: HTTP, WebSocket, raw TCP |
//! | [`client`], [`http`], [`paced`] | applications: SOCKS5, SOCKS4a, CONNECT, HTTP, paced streams |
//! | [`webdriver`] | headless Chromium |
//! | [`engine`], [`images`] | containers, and the images they start from |
//! | [`printed`] | command lines as the documents print them |

pub mod binary;
pub mod client;
pub mod clock;
pub mod engine;
pub mod fault;
pub mod gateway;
pub mod hostile;
pub mod http;
pub mod images;
pub mod mount;
pub mod netns;
pub mod origin;
pub mod paced;
pub mod pair;
pub mod pattern;
pub mod printed;
pub mod process;
pub mod realm;
pub mod site;
pub mod skip;
pub mod slots;
pub mod town;
pub mod webdriver;
