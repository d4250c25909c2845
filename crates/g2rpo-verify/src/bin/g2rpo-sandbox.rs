//! The sandbox helper as a program of its own, for those who cannot let their program be its own
//! helper. It is started by g2rpo and speaks with it over its standard streams.

fn main() {
    std::process::exit(g2rpo_sandbox::helper_main());
}
