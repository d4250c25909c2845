//! Which program is started as the helper, and where it is looked for.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::SandboxError;

/// The only argument of a program that is asked to be its own helper.
pub const HELPER_ARGUMENT: &str = "--g2rpo-sandbox-helper";
/// Environment variable that names the helper program.
pub const HELPER_ENV: &str = "G2RPO_SANDBOX";

const PROGRAM: &str = "g2rpo-sandbox";

static OWN_HELPER: AtomicBool = AtomicBool::new(false);

/// Which program is started as the helper.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Helper {
    /// The first of: the program named by `G2RPO_SANDBOX`; this program itself, if it called
    /// [`main_if_requested`]; `g2rpo-sandbox` beside this executable or, for cargo's `deps` and
    /// `examples` folders, one folder up; `g2rpo-sandbox` on `PATH`.
    #[default]
    Auto,
    /// This program.
    Path(PathBuf),
}

/// Makes this program its own sandbox helper. Call it first thing in `main`:
///
/// ```no_run
/// g2rpo_sandbox::main_if_requested();
/// // … the program
/// ```
///
/// When the program was started with the single argument `--g2rpo-sandbox-helper` the call runs the
/// helper and exits; otherwise it notes that the program can be started that way and returns. It
/// must run before threads are started, because the helper has to be single-threaded.
pub fn main_if_requested() {
    let mut args = env::args_os().skip(1);
    if args.next().is_some_and(|first| first == HELPER_ARGUMENT) && args.next().is_none() {
        std::process::exit(crate::helper_main());
    }
    OWN_HELPER.store(true, Ordering::Relaxed);
}

/// A program to start as the helper, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) program: PathBuf,
    pub(crate) args: &'static [&'static str],
}

pub(crate) fn locate(helper: &Helper) -> Result<Located, SandboxError> {
    let program = |program: PathBuf| Located { program, args: &[] };
    if let Helper::Path(path) = helper {
        return Ok(program(path.clone()));
    }
    if let Some(path) = env::var_os(HELPER_ENV).filter(|path| !path.is_empty()) {
        return Ok(program(PathBuf::from(path)));
    }
    if OWN_HELPER.load(Ordering::Relaxed) {
        // The link of the running image, not its path: it stays valid when the file is replaced
        // during a run, as it is when the program is rebuilt.
        return Ok(Located {
            program: PathBuf::from("/proc/self/exe"),
            args: &[HELPER_ARGUMENT],
        });
    }
    let mut tried = vec![HELPER_ENV.to_owned(), "this program itself".to_owned()];
    let candidates = beside_executable().into_iter().chain(on_path());
    for candidate in candidates {
        if candidate.is_file() {
            return Ok(program(candidate));
        }
        tried.push(candidate.display().to_string());
    }
    Err(SandboxError::HelperNotFound {
        tried: tried.join(", "),
    })
}

fn beside_executable() -> Vec<PathBuf> {
    let Some(folder) = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned))
    else {
        return Vec::new();
    };
    let mut found = vec![folder.join(PROGRAM)];
    if folder.ends_with("deps") || folder.ends_with("examples") {
        found.extend(folder.parent().map(|up| up.join(PROGRAM)));
    }
    found
}

fn on_path() -> Vec<PathBuf> {
    env::var_os("PATH")
        .map(|path| {
            env::split_paths(&path)
                .map(|folder| folder.join(PROGRAM))
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_path_wins() {
        let located = locate(&Helper::Path("/opt/helper".into())).unwrap();
        assert_eq!(located.program, Path::new("/opt/helper"));
        assert!(located.args.is_empty());
    }

    #[test]
    fn the_executables_folder_is_searched_first() {
        let places = beside_executable();
        assert!(places[0].ends_with(PROGRAM));
        // This test runs from cargo's `deps` folder, where the program is one folder up.
        assert_eq!(places.len(), 2);
    }
}
