//! What commands stand for: letters, accents, operands.

use crate::expr::Func;

/// Greek letters and others that name variables.
pub(super) fn is_letter_command(name: &str) -> bool {
    [
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
        "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
        "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell",
        "hbar", "aleph",
    ]
    .contains(&name)
}

/// Marks over a letter that make another variable of it.
pub(super) fn is_accent(name: &str) -> bool {
    matches!(
        name,
        "vec"
            | "hat"
            | "tilde"
            | "bar"
            | "overline"
            | "overrightarrow"
            | "widehat"
            | "widetilde"
            | "angle"
            | "measuredangle"
            | "sphericalangle"
            | "triangle"
            | "dot"
    )
}

/// Commands that begin an operand.
pub(super) fn is_operand(command: &str) -> bool {
    matches!(
        command,
        "frac" | "sqrt" | "binom" | "pi" | "infty" | "lfloor" | "lceil"
    ) || Func::named(command).is_some()
        || is_letter_command(command)
        || is_accent(command)
}
