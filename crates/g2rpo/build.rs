//! Keeps in the programs of a package where libtorch is, so that they find it when they start.
//!
//! `g2rpo-libtorch` says where. A package with programs of its own that depends on it can use this
//! file as its build script too.

fn main() {
    println!("cargo::rerun-if-env-changed=DEP_G2RPO_LIBTORCH_RPATH");
    if let Some(path) = std::env::var_os("DEP_G2RPO_LIBTORCH_RPATH") {
        for dir in std::env::split_paths(&path) {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", dir.display());
        }
    }
}
