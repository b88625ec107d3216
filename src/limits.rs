//! What the system lets one process have.

/// Raises the number of open files to what the system allows: each connection is one, and so is each running request's
/// file.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        log::warn!("the number of open files stays {:?}: {error}", limit.current);
    }
}
