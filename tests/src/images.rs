//! The images that containers start from, and the gateway's own.
//!
//! Where an image registry is reachable they are those that the Dockerfile and `compose.yaml` name.
//! Elsewhere `docker/local-images` makes others of the same kind once; their tags say what is in
//! them, so that a second run finds them.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::binary::workspace;
use crate::clock;
use crate::engine::docker;
use crate::process;

/// The gateway's image under test; not the operator's.
pub const CLOAK: &str = "cloak-test";
/// Stages of the Dockerfile whose layers the next build can use.
const STAGES: [&str; 2] = ["dependencies", "build"];
/// What every image of the Dockerfile is marked with.
const LABEL: &str = "label=org.opencontainers.image.title=cloak";
/// The base image that shows whether there is a registry.
const PROBE: &str = "debian:bookworm-slim";
/// A registry that is there answers within this time, and one that is not is given up.
const PULL_WITHIN: Duration = Duration::from_secs(120);
/// Debian's packages over a slow line.
const MAKE_WITHIN: Duration = Duration::from_secs(900);
/// A build from nothing on two busy cores.
pub const BUILD_WITHIN: Duration = Duration::from_secs(1800);

/// Which images `compose.yaml` is to use.
#[derive(Debug)]
pub struct Images {
    environment: Vec<(String, String)>,
}

impl Images {
    /// Those of this machine, made where they cannot be had.
    ///
    /// # Panics
    /// When they can neither be pulled nor made.
    pub fn get() -> &'static Self {
        static IMAGES: OnceLock<Images> = OnceLock::new();
        IMAGES.get_or_init(|| {
            let mut environment = bases();
            // The dev profile takes half the time, and the Dockerfile does the same with it.
            let profile = if clock::full() { "release" } else { "dev" };
            environment.push(("PROFILE".to_owned(), profile.to_owned()));
            environment.push(("CLOAK_IMAGE".to_owned(), CLOAK.to_owned()));
            Self { environment }
        })
    }

    /// Variables of `compose.yaml`.
    #[must_use]
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// After a build: keeps its stages for the next one, and removes what they replace.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub fn keep_stages(&self) {
        for stage in STAGES {
            let mut command = Command::new("docker");
            command.current_dir(workspace()).env("DOCKER_BUILDKIT", "0");
            command.args(["build", "--file", "docker/Dockerfile", "--target", stage]);
            for (name, value) in &self.environment {
                if matches!(name.as_str(), "BUILD_IMAGE" | "RUN_IMAGE" | "PROFILE") {
                    command.arg("--build-arg").arg(format!("{name}={value}"));
                }
            }
            command.arg("--tag").arg(format!("{CLOAK}-{stage}")).arg(".");
            let _ = process::run(command, b"", BUILD_WITHIN).success();
        }
        let _ = docker(&["image", "prune", "--force", "--filter", LABEL], PULL_WITHIN).success();
    }
}

fn bases() -> Vec<(String, String)> {
    let is_here = docker(&["image", "inspect", PROBE], PULL_WITHIN).code == Some(0);
    if is_here || docker(&["pull", "--quiet", PROBE], PULL_WITHIN).code == Some(0) {
        return Vec::new();
    }
    println!("no image registry is reachable: docker/local-images makes the base images here");
    let made =
        process::run(Command::new(workspace().join("docker/local-images")), b"", MAKE_WITHIN);
    let text = made.success().text();
    let pair =
        |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}
