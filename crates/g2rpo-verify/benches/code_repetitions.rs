//! Does an honest solution ever fail?
//!
//!     cargo bench -p g2rpo-verify --bench code_repetitions [repetitions]
//!
//! Judges eight right solutions of different kinds 1,000 times at the strongest level and ends with an
//! error at the first verdict that is not "correct".

use std::time::Instant;

use g2rpo_verify::code::{CodeVerifier, PoolConfig, SandboxPool, main_if_requested};

#[path = "../tests/code/honest.rs"]
mod honest;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    main_if_requested();
    let times = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let pool = SandboxPool::new(&PoolConfig::default())?;
    let level = pool.level().map_or("none", |level| level.name());
    let began = Instant::now();
    let verdicts = honest::repeat(&CodeVerifier::new(pool), times.unwrap_or(1000));
    let seconds = began.elapsed().as_secs_f64();
    println!("{verdicts} verdicts at level {level}, all correct, in {seconds:.0} s");
    Ok(())
}
