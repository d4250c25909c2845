//! Installing libtorch into the user's cache: once, whole or not at all.

use crate::error::{Error, Result};
use crate::pins::{Flavor, Pins, TORCH_VERSION};
use crate::pip::{Pip, Python, last_line};
use crate::probe;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Written last: its text is the requirements file that the folder was made from.
const STAMP: &str = ".g2rpo-requirements";

/// Where and with what to install.
#[derive(Debug)]
pub(crate) struct Installer {
    /// The folder in the user's cache that holds all installations.
    pub(crate) cache: PathBuf,
    pub(crate) python: Python,
}

impl Installer {
    /// Uses `$XDG_CACHE_HOME/g2rpo`, or `~/.cache/g2rpo`.
    pub(crate) fn new() -> Result<Self> {
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|dir| dir.is_absolute())
        };
        let cache = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .ok_or_else(|| Error::new("neither XDG_CACHE_HOME nor HOME names a folder: set XDG_CACHE_HOME to where libtorch shall be kept"))?;
        Ok(Self {
            cache: cache.join("g2rpo"),
            python: Python::new(),
        })
    }

    /// The folder of an installation, there or not.
    pub(crate) fn folder(&self, flavor: Flavor) -> PathBuf {
        self.cache
            .join(format!("libtorch-{TORCH_VERSION}-{flavor}"))
    }

    /// Makes sure that the installation is there and whole; returns its folder.
    ///
    /// Nothing is fetched when it is. Parallel calls wait for each other. A call that is interrupted
    /// leaves no half installation behind, and the next one goes on with the wheels that had arrived.
    pub(crate) fn ensure(&self, flavor: Flavor, pins: &Pins) -> Result<PathBuf> {
        let folder = self.folder(flavor);
        if is_whole(&folder, pins) {
            return Ok(folder);
        }
        fs::create_dir_all(&self.cache).map_err(Error::io("create", self.cache.display()))?;
        let _lock = self.lock(flavor)?;
        if !is_whole(&folder, pins) {
            self.install(&folder, pins)?;
        }
        Ok(folder)
    }

    fn install(&self, folder: &Path, pins: &Pins) -> Result<()> {
        self.python.check()?;
        let wheels = with_suffix(folder, ".wheels");
        let partial = with_suffix(folder, ".partial");
        remove(&partial)?;
        remove(folder)?;
        self.check_space(pins, &wheels)?;
        eprintln!(
            "Installing libtorch {TORCH_VERSION} into {} ({} to download, {} on disk)",
            folder.display(),
            megabytes(pins.download_bytes),
            megabytes(pins.installed_bytes)
        );
        let tmp = partial.join("tmp");
        let target = partial.join("root");
        let requirements = partial.join("requirements.txt");
        for dir in [&wheels, &tmp] {
            fs::create_dir_all(dir).map_err(Error::io("create", dir.display()))?;
        }
        fs::write(&requirements, pins.requirements)
            .map_err(Error::io("write", requirements.display()))?;
        let pip = Pip {
            python: &self.python,
            pins,
            wheels: &wheels,
            tmp: &tmp,
        };
        // One by one: pip keeps what it fetched only when a whole call succeeds.
        let single = partial.join("one.txt");
        for wheel in pins.wheels() {
            fs::write(&single, wheel).map_err(Error::io("write", single.display()))?;
            pip.download(&single)?;
        }
        pip.install(&requirements, &target)?;
        self.verify(&target, pins)?;
        let stamp = target.join(STAMP);
        fs::write(&stamp, pins.requirements).map_err(Error::io("write", stamp.display()))?;
        fs::rename(&target, folder)
            .map_err(Error::io("move the installation to", folder.display()))?;
        remove(&partial)?;
        remove(&wheels)
    }

    /// Refuses to start what the disk cannot hold.
    fn check_space(&self, pins: &Pins, wheels: &Path) -> Result<()> {
        // Wheels, a copy of them in pip's own cache, and what they unpack to.
        let needed = if wheels.exists() {
            pins.download_bytes
        } else {
            2 * pins.download_bytes
        } + pins.installed_bytes;
        match probe::free_bytes(&self.cache) {
            Some(free) if free < needed => Err(Error::new(format!(
                "{} has {} free, and libtorch needs {} while it is being installed: free some space, or set XDG_CACHE_HOME to a folder on a larger disk, and run the same command again",
                self.cache.display(),
                megabytes(free),
                megabytes(needed)
            ))),
            _ => Ok(()),
        }
    }

    /// Looks for the files that a build needs, and loads the libraries.
    fn verify(&self, root: &Path, pins: &Pins) -> Result<()> {
        if let Some(missing) = missing_file(root, pins) {
            return Err(Error::new(format!(
                "the wheels of torch {TORCH_VERSION} were installed, but {missing} is not among their files: pip may be set to an index with another build; point it to the ordinary Python Package Index and run the same command again"
            )));
        }
        for library in pins.loads {
            let load = "import ctypes, sys; ctypes.CDLL(sys.argv[1])";
            let mut command = self.python.command(["-c", load]);
            let output = command.arg(root.join(library)).output();
            let output = output.map_err(Error::io("start", &self.python))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                let reason = last_line(&text).unwrap_or("no reason given");
                return Err(Error::new(format!(
                    "{library} was installed but does not load on this system ({reason}): libtorch {TORCH_VERSION} needs a C library as new as glibc 2.28; install PyTorch {TORCH_VERSION} in another way and set LIBTORCH"
                )));
            }
        }
        Ok(())
    }

    /// Holds other processes of this user back until the file is dropped; the system lets go of it if we die.
    fn lock(&self, flavor: Flavor) -> Result<File> {
        let path = with_suffix(&self.folder(flavor), ".lock");
        let file = File::create(&path).map_err(Error::io("create", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("Waiting for another `cargo xtask` that is installing libtorch…");
                file.lock().map_err(Error::io("lock", path.display()))?;
            }
            // Some network file systems have no locks. The rename at the end still keeps halves out.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(Error::io("lock", path.display())(error));
            }
        }
        Ok(file)
    }
}

/// Whether `folder` was installed from exactly these pins, to the end, and nobody took the library away.
pub(crate) fn is_whole(folder: &Path, pins: &Pins) -> bool {
    fs::read_to_string(folder.join(STAMP)).is_ok_and(|text| text == pins.requirements)
        && missing_file(folder, pins).is_none()
}

fn missing_file<'a>(root: &Path, pins: &Pins) -> Option<&'a str> {
    (pins.files.iter().copied()).find(|file| !root.join(file).exists())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", dir.display())(error))
        }
        _ => Ok(()),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    const PINS: Pins = Pins {
        requirements: "# comment\ntorch==2.11.0 --hash=sha256:00\ncudart==1 --hash=sha256:00\n",
        platforms: &["any"],
        download_bytes: 1000,
        installed_bytes: 2000,
        files: &["torch/lib/libtorch_cpu.so"],
        loads: &["torch/lib/libtorch_cpu.so"],
    };

    /// Stands for Python: writes a line into `calls` for each use of pip, and does what the file
    /// `trouble` says once.
    const FAKE_PYTHON: &str = r#"
here=$(dirname "$0")
verb="$3"
[ "$1" = -c ] && verb=load
for last; do :; done
[ "$verb" = download ] && verb=$(cut -d= -f1 "$last")
trouble=
if [ -f "$here/trouble.$verb" ]; then
    trouble=$(cat "$here/trouble.$verb")
    rm "$here/trouble.$verb"
fi
case "$verb" in
    --version) [ -z "$trouble" ] || exit 1 ;;
    torch | cudart)
        [ "$4" = --dest ] || exit 9
        [ -f "$5/$verb.whl" ] && verb="$verb-kept"
        echo "$verb" >>"$here/calls"
        [ -n "$trouble" ] || echo wheel >"$5/$verb.whl"
        ;;
    install)
        echo install >>"$here/calls"
        while [ "$1" != --target ]; do shift; done
        [ -d "$TMPDIR" ] || exit 9
        mkdir -p "$2/torch/lib"
        [ "$trouble" = other ] || echo so >"$2/torch/lib/libtorch_cpu.so"
        ;;
    load) [ -f "$last" ] || exit 9 ;;
    *) exit 9 ;;
esac
case "$trouble" in
    kill) kill -9 $$ ;;
    "" | other) ;;
    *) echo "$trouble" >&2; exit 1 ;;
esac
"#;

    struct Bench {
        dir: tempfile::TempDir,
        installer: Installer,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let script = dir.path().join("fake-python");
            fs::write(&script, FAKE_PYTHON).unwrap();
            let installer = Installer {
                cache: dir.path().join("cache/g2rpo"),
                python: Python::fake([OsStr::new("sh"), script.as_os_str()]),
            };
            Self { dir, installer }
        }

        fn trouble(&self, verb: &str, what: &str) {
            fs::write(self.dir.path().join(format!("trouble.{verb}")), what).unwrap();
        }

        fn ensure(&self) -> Result<PathBuf> {
            self.installer.ensure(Flavor::Cpu, &PINS)
        }

        fn fails(&self, expected: &str) {
            let message = self.ensure().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!self.installer.folder(Flavor::Cpu).exists());
        }

        fn succeeds(&self) {
            let folder = self.ensure().unwrap();
            assert_eq!(folder, self.installer.folder(Flavor::Cpu));
            assert!(is_whole(&folder, &PINS));
            let mut left: Vec<_> = fs::read_dir(&self.installer.cache)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            left.sort();
            assert_eq!(left, ["libtorch-2.11.0-cpu", "libtorch-2.11.0-cpu.lock"]);
        }

        fn calls(&self) -> String {
            fs::read_to_string(self.dir.path().join("calls"))
                .unwrap_or_default()
                .replace('\n', " ")
        }
    }

    #[test]
    fn installs_once() {
        let bench = Bench::new();
        bench.succeeds();
        bench.succeeds();
        assert_eq!(bench.calls(), "torch cudart install ");
    }

    #[test]
    fn an_interrupted_download_goes_on_with_the_wheels_that_arrived() {
        let bench = Bench::new();
        bench.trouble("torch", "kill");
        bench.fails("interrupted");
        bench.trouble("cudart", "NewConnectionError: Network is unreachable");
        bench.fails("check the network");
        bench.succeeds();
        assert_eq!(
            bench.calls(),
            "torch torch cudart torch-kept cudart install "
        );
    }

    #[test]
    fn an_interrupted_installation_leaves_nothing_that_looks_whole() {
        let bench = Bench::new();
        bench.trouble("install", "kill");
        bench.fails("interrupted");
        bench.trouble("install", "OSError: [Errno 28] No space left on device");
        bench.fails("disk filled up");
        bench.succeeds();
    }

    #[test]
    fn wheels_of_another_build_are_refused() {
        let bench = Bench::new();
        bench.trouble("install", "other");
        bench.fails("torch/lib/libtorch_cpu.so is not among their files");
        bench.trouble("load", "OSError: GLIBC_2.28 not found");
        bench.fails("does not load on this system (OSError: GLIBC_2.28 not found)");
        bench.succeeds();
    }

    #[test]
    fn too_little_disk_is_found_before_anything_is_fetched() {
        let bench = Bench::new();
        let pins = Pins {
            installed_bytes: u64::MAX / 4,
            ..PINS
        };
        let error = bench.installer.ensure(Flavor::Cpu, &pins).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("free") && message.contains("XDG_CACHE_HOME"),
            "{message}"
        );
        assert_eq!(bench.calls(), "");
        bench.succeeds();
    }

    #[test]
    fn no_pip_is_found_before_anything_is_fetched() {
        let bench = Bench::new();
        bench.trouble("--version", "none");
        bench.fails("has no pip");
        assert_eq!(bench.calls(), "");
        bench.succeeds();
    }

    #[test]
    fn new_pins_and_lost_files_lead_to_a_new_installation() {
        let bench = Bench::new();
        bench.succeeds();
        let pins = Pins {
            requirements: "torch==2.11.0 --hash=sha256:01\ncudart==1 --hash=sha256:00\n",
            ..PINS
        };
        bench.installer.ensure(Flavor::Cpu, &pins).unwrap();
        bench.succeeds();
        let folder = bench.installer.folder(Flavor::Cpu);
        fs::remove_file(folder.join(PINS.files[0])).unwrap();
        bench.succeeds();
        assert_eq!(bench.calls(), "torch cudart install ".repeat(4));
    }

    #[test]
    fn parallel_calls_install_once() {
        let bench = Bench::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| bench.ensure().unwrap());
            }
        });
        bench.succeeds();
        assert_eq!(bench.calls(), "torch cudart install ");
    }
}
