//! Beside the update: how far the policy that learns is from the one that sampled.

use g2rpo_core::{Role, TokenStreams};

/// Statistics of `d = log p − log q` over sampled tokens, p the policy that learns at its first sight of them, q the one that
/// sampled. They are sums, so parts of a batch add up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mismatch {
    n: f64,
    abs: f64,
    k3: f64,
    weight: f64,
    weight_squared: f64,
}

impl Mismatch {
    /// Adds the sampled tokens of some rows; those whose log-probability the sampler did not report are left out.
    pub(crate) fn add(&mut self, streams: &TokenStreams) {
        // A sampler's log-probabilities are either the old ones or beside them.
        let Some(sampled) = streams.logp_sampling.as_ref().or(streams.logp_old.as_ref()) else {
            return;
        };
        let tokens = streams.roles.values().iter().zip(streams.logp.values());
        for ((role, logp), sampled) in tokens.zip(sampled.values()) {
            let d = logp - sampled;
            if *role != Role::Own || !d.is_finite() {
                continue;
            }
            // Beyond this a weight says only that it is beyond.
            let weight = d.min(50.0).exp();
            self.n += 1.0;
            self.abs += d.abs();
            self.k3 += weight - 1.0 - d;
            self.weight += weight;
            self.weight_squared += weight * weight;
        }
    }

    /// Mean of |d|, in nats; `None` without tokens.
    pub fn logp_difference(&self) -> Option<f64> {
        (self.n > 0.0).then(|| self.abs / self.n)
    }

    /// KL(q ‖ p) per token by k3, the mean of `p/q − 1 − d`: 0 or more, in nats.
    pub fn kl(&self) -> Option<f64> {
        (self.n > 0.0).then(|| self.k3 / self.n)
    }

    /// Effective sample size of the token weights w = p/q as a share of the tokens, `(Σw)² / (n Σw²)`, in (0, 1].
    pub fn ess(&self) -> Option<f64> {
        (self.n > 0.0)
            .then(|| (self.weight * self.weight / (self.n * self.weight_squared)).min(1.0))
    }
}

/// Gives tokens that nobody sampled the ratio 1, whatever the policy says of them now.
pub(crate) fn without_ratio(streams: &mut TokenStreams) {
    let Some(old) = &mut streams.logp_old else {
        return;
    };
    for row in 0..streams.roles.n_rows() {
        let roles = streams.roles.row(row);
        let old = old.row_mut(row);
        for ((role, logp), old) in roles.iter().zip(streams.logp.row(row)).zip(old) {
            if *role == Role::Guidance {
                *old = *logp;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_core::Ragged;

    fn streams(logp: &[f64], old: &[f64]) -> TokenStreams {
        let roles = vec![Role::Guidance, Role::Own, Role::Own];
        TokenStreams::new(
            Ragged::from_rows([roles]),
            Ragged::from_rows([logp.to_vec()]),
            vec![1.0],
        )
        .and_then(|s| s.with_logp_old(Ragged::from_rows([old.to_vec()])))
        .unwrap()
    }

    #[test]
    fn statistics_by_hand() {
        let mut mismatch = Mismatch::default();
        assert_eq!(mismatch.ess(), None);
        // d is ln 2 and −ln 2: weights 2 and 1/2.
        let ln2 = 2f64.ln();
        mismatch.add(&streams(
            &[-9.0, -1.0, -2.0],
            &[0.0, -1.0 - ln2, -2.0 + ln2],
        ));
        let close = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} {b}");
        close(mismatch.logp_difference(), ln2);
        close(mismatch.kl(), 0.25);
        close(mismatch.ess(), 2.5 * 2.5 / (2.0 * 4.25));
    }

    #[test]
    fn guidance_gets_the_ratio_1() {
        let mut streams = streams(&[-9.0, -1.0, -2.0], &[0.0, -1.5, -2.5]);
        without_ratio(&mut streams);
        assert_eq!(streams.logp_old.unwrap().row(0), [-9.0, -1.5, -2.5]);
    }
}
