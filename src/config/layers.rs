//! Where settings come from, and how the environment spells their names.

use std::path::PathBuf;

const ENVIRONMENT_PREFIX: &str = "HARVESTER_";

/// Where settings come from, in the order in which they win: the last one does.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The file that `--config` names; it must be there.
    pub file: Option<PathBuf>,
    /// The environment: all of it, what is not ours is passed over.
    pub environment: Vec<(String, String)>,
    /// `--set KEY=VALUE`, with dotted keys such as `archive.bucket`.
    pub flags: Vec<(String, String)>,
}

/// The path of a variable that is ours: `HARVESTER_ARCHIVE__BUCKET` is `archive`, `bucket`.
///
/// Kubernetes gives every container variables about each service of its namespace, so a service called
/// `harvester` makes `HARVESTER_PORT`, `HARVESTER_SERVICE_HOST` and the like: those are passed over.
pub(super) fn environment_keys(name: &str) -> Option<Vec<String>> {
    let key = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    let is_from_kubernetes =
        key == "PORT" || key.starts_with("PORT_") || key.starts_with("SERVICE_");
    if key == "CONFIG" || is_from_kubernetes {
        return None;
    }
    Some(key.split("__").map(str::to_ascii_lowercase).collect())
}

/// A source's name as the environment can spell it.
pub(super) fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}
