//! The private root of a mount namespace: read-only views of what the interpreter needs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use super::files::{NULL, READABLE_DEVICES};
use super::sys;
use crate::spec::Spec;

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;

/// Where the private root is built; hidden again when it becomes the root.
const BUILD_AT: [&str; 4] = ["/tmp", "/mnt", "/run", "/var/tmp"];
/// Links that merged-/usr systems have where loaders and libraries are looked for.
const LINKS: [&str; 5] = ["/lib", "/lib64", "/bin", "/usr/lib64", "/usr/bin/python3"];

/// Replaces the root by an empty one that holds read-only views of what may be read.
///
/// There is no `/proc`, no `/sys`, no home, and nothing can be written. Runs in a mount namespace of
/// its own, so the host sees none of it.
pub(super) fn enter_private_root(spec: &Spec) -> io::Result<()> {
    let slash = Path::new("/");
    sys::mount(None, slash, None, libc::MS_REC | libc::MS_PRIVATE, None)?;
    let views = open_views(spec);
    let base = BUILD_AT
        .iter()
        .map(Path::new)
        .find(|path| path.is_dir())
        .ok_or_else(|| io::Error::other("none of /tmp, /mnt, /run, /var/tmp exists"))?;
    let tmpfs = Some("size=1m,nr_inodes=1k,mode=755");
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    sys::mount(Some(Path::new("tmpfs")), base, Some("tmpfs"), flags, tmpfs)?;
    std::env::set_current_dir(base)?;
    for view in &views {
        view.show(base)?;
    }
    for link in LINKS {
        let inside = below(base, Path::new(link));
        if let Ok(target) = fs::read_link(link)
            && fs::symlink_metadata(&inside).is_err()
        {
            create_parents(&inside)?;
            symlink(target, inside)?;
        }
    }
    sys::pivot_to_current_folder()?;
    std::env::set_current_dir(slash)?;
    // Only the views below have other attributes, and these are as strict.
    sys::add_mount_attributes(slash, RDONLY | NOSUID)
}

/// Something of the host that stays visible. Opened before the new root may hide it.
struct View {
    path: PathBuf,
    file: File,
    is_dir: bool,
    attributes: u64,
}

impl View {
    fn open(path: &Path, attributes: u64) -> Option<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)
            .ok()?;
        let is_dir = file.metadata().ok()?.is_dir();
        Some(Self {
            path: path.to_owned(),
            file,
            is_dir,
            attributes,
        })
    }

    fn show(&self, base: &Path) -> io::Result<()> {
        let target = below(base, &self.path);
        create_parents(&target)?;
        if self.is_dir {
            fs::create_dir_all(&target)?;
        } else {
            File::create(&target)?;
        }
        let source = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let flags = libc::MS_BIND | libc::MS_REC;
        sys::mount(Some(&source), &target, None, flags, None)?;
        sys::add_mount_attributes(&target, self.attributes)
    }
}

fn open_views(spec: &Spec) -> Vec<View> {
    let mut paths: Vec<PathBuf> = spec
        .read_paths
        .iter()
        .chain([&spec.program])
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    paths.sort();
    // A folder comes before what is inside it, which it already shows.
    paths.dedup_by(|inner, outer| inner.starts_with(outer));
    let views = paths
        .iter()
        .filter_map(|path| View::open(path, RDONLY | NOSUID | NODEV));
    let devices = READABLE_DEVICES
        .iter()
        .chain([&NULL])
        .filter_map(|path| View::open(Path::new(path), NOSUID | NOEXEC));
    views.chain(devices).collect()
}

fn below(base: &Path, path: &Path) -> PathBuf {
    base.join(path.strip_prefix("/").unwrap_or(path))
}

fn create_parents(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}
