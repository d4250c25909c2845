//! The LM head by chunks of tokens, forward and backward.

use tch::{TchError, Tensor};

use crate::error::{Doing, Result};
use crate::model::params::float_kind;

/// The vocabulary projection, token log-probabilities and entropies, by chunks of tokens.
///
/// Shapes: `N` tokens, hidden size `H`, vocabulary `V`. `[N, V]` never exists as a whole unless it
/// is small: at most [`Self::chunk`] rows of it do at a time, in f32.
///
/// There is no autograd here. With `z = h·Wᵀ / temperature`, `L = log_softmax(z)`, `p = exp(L)` and
/// the entropy `S = −Σ p·L`, the derivatives are `∂L_y/∂z = onehot(y) − p` and
/// `∂S/∂z = −p·(L + S)`, so the backward pass needs `L` and nothing else. It is kept from the
/// forward pass when all tokens fit one chunk, and computed once more otherwise, unless the weight is
/// frozen: `∂L_y/∂h` does not depend on the loss, so the forward pass finds it while it has `L`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenHead<'a> {
    /// The projection's weight, `[V, H]`.
    pub(crate) weight_vh: &'a Tensor,
    /// Logits are divided by it.
    pub(crate) temperature: f64,
    /// Whether entropies are wanted.
    pub(crate) entropy: bool,
    /// Whether the weight's own gradient is never asked for.
    pub(crate) frozen: bool,
    /// Largest number of tokens per chunk, at least 1.
    pub(crate) chunk: i64,
}

/// What the forward pass computed.
#[derive(Debug)]
pub(crate) struct HeadOutput {
    /// Log-probability of every target, f32 (f64 for an f64 model), `[N]`.
    pub(crate) logp_n: Tensor,
    /// Entropy in nats, `[N]`.
    pub(crate) entropy_n: Option<Tensor>,
    /// `L` of all tokens, `[N, V]`, if it fits one chunk.
    all_nv: Option<Tensor>,
    /// `∂L_y/∂h` of all tokens, `[N, H]`, if they do not fit one chunk and the weight is frozen.
    slope_nh: Option<Tensor>,
}

impl TokenHead<'_> {
    /// Log-probability of each target after each hidden state. `keep` says that a backward pass
    /// will follow.
    pub(crate) fn forward(
        &self,
        hidden_nh: &Tensor,
        target_n: &Tensor,
        keep: bool,
    ) -> Result<HeadOutput> {
        tch::no_grad(|| {
            let n = hidden_nh.size2()?.0;
            let mut logps = Vec::new();
            let mut entropies = Vec::new();
            let mut slopes = Vec::new();
            let mut all_nv = None;
            for start in (0..n).step_by(self.chunk as usize) {
                let len = self.chunk.min(n - start);
                let all = self.log_softmax(&hidden_nh.f_narrow(0, start, len)?)?;
                let target = target_n.f_narrow(0, start, len)?.f_unsqueeze(1)?;
                logps.push(all.f_gather(1, &target, false)?.f_squeeze_dim(1)?);
                if self.entropy {
                    entropies.push(entropy(&all)?);
                }
                if keep && n <= self.chunk {
                    all_nv = Some(all);
                } else if keep && self.frozen {
                    let one = Tensor::f_ones_like(&logps[logps.len() - 1])?;
                    let target = target.f_squeeze_dim(1)?;
                    let slope = self.logits_grad(all, &target, &one, None)?;
                    let slope = slope.f_to_kind(hidden_nh.kind())?;
                    slopes.push(slope.f_matmul(self.weight_vh)?);
                }
            }
            let kind = float_kind(hidden_nh.kind());
            let cat = |parts: &[Tensor]| match parts {
                [] => Tensor::f_zeros([0], (kind, hidden_nh.device())),
                [one] => Ok(one.shallow_clone()),
                _ => Tensor::f_cat(parts, 0),
            };
            Ok::<_, TchError>(HeadOutput {
                logp_n: cat(&logps)?,
                entropy_n: self.entropy.then(|| cat(&entropies)).transpose()?,
                all_nv,
                slope_nh: (!slopes.is_empty()).then(|| cat(&slopes)).transpose()?,
            })
        })
        .doing(|| self.describe("log-probabilities"))
    }

    /// Gradient with respect to the hidden states, `[N, H]` in their kind, given those with
    /// respect to log-probabilities and entropies (`[N]`, f32 or f64 as the output's). The
    /// weight's gradient is added to `weight_grad_vh`, unless the weight is frozen.
    pub(crate) fn backward(
        &self,
        hidden_nh: &Tensor,
        target_n: &Tensor,
        output: HeadOutput,
        logp_grad_n: &Tensor,
        entropy_grad_n: Option<&Tensor>,
        mut weight_grad_vh: Option<Tensor>,
    ) -> Result<Tensor> {
        let mut kept = output.all_nv;
        tch::no_grad(|| {
            if let (Some(slope_nh), None, None) = (output.slope_nh, entropy_grad_n, &weight_grad_vh)
            {
                let grad_nh = slope_nh.f_mul(&logp_grad_n.f_unsqueeze(1)?)?;
                return grad_nh.f_to_kind(hidden_nh.kind());
            }
            let n = hidden_nh.size2()?.0;
            let hidden_grad_nh = hidden_nh.f_empty_like()?;
            for start in (0..n).step_by(self.chunk as usize) {
                let len = self.chunk.min(n - start);
                let part = |x: &Tensor| x.f_narrow(0, start, len);
                let hidden = part(hidden_nh)?;
                let all = match kept.take() {
                    Some(all) => all,
                    None => self.log_softmax(&hidden)?,
                };
                let entropy_grad = entropy_grad_n.map(part).transpose()?;
                let (target, logp_grad) = (part(target_n)?, part(logp_grad_n)?);
                let logits_grad = (self)
                    .logits_grad(all, &target, &logp_grad, entropy_grad.as_ref())?
                    .f_to_kind(hidden.kind())?;
                part(&hidden_grad_nh)?.f_copy_(&logits_grad.f_matmul(self.weight_vh)?)?;
                if let Some(total) = &mut weight_grad_vh {
                    let transposed = logits_grad.f_tr()?;
                    let _ = match total.kind() == hidden.kind() {
                        true => total.f_addmm_(&transposed, &hidden)?,
                        false => total.f_add_(&transposed.f_matmul(&hidden)?)?,
                    };
                }
            }
            Ok::<_, TchError>(hidden_grad_nh)
        })
        .doing(|| self.describe("the gradient of log-probabilities"))
    }

    /// `[n, H]` to `L`, `[n, V]`.
    fn log_softmax(&self, hidden_nh: &Tensor) -> Result<Tensor, TchError> {
        let logits = hidden_nh.f_linear(self.weight_vh, None::<&Tensor>)?;
        let mut logits = logits.f_to_kind(float_kind(logits.kind()))?;
        if self.temperature != 1.0 {
            logits = logits.f_div_scalar_(self.temperature)?;
        }
        logits.f_log_softmax(-1, None)
    }

    /// Gradient with respect to the undivided logits; consumes `L`.
    fn logits_grad(
        &self,
        mut all_nv: Tensor,
        target_n: &Tensor,
        logp_grad_n: &Tensor,
        entropy_grad_n: Option<&Tensor>,
    ) -> Result<Tensor, TchError> {
        let logp_grad = (logp_grad_n.f_div_scalar(self.temperature)?).f_unsqueeze(1)?;
        let mut grad_nv = match entropy_grad_n {
            None => all_nv.f_exp_()?.f_mul_(&logp_grad.f_neg()?)?,
            Some(entropy_grad_n) => {
                // −p·(g + e·(L + S)) = −p·((g + e·S) + e·L). A probability that underflowed to 0
                // has L far from −∞ in log-softmax, so there is no 0·∞ here.
                let e = (entropy_grad_n.f_div_scalar(self.temperature)?).f_unsqueeze(1)?;
                let s = entropy(&all_nv)?.f_unsqueeze(1)?;
                let p = all_nv.f_exp()?;
                let constant = logp_grad.f_add(&e.f_mul(&s)?)?;
                (all_nv.f_mul_(&e)?.f_add_(&constant)?.f_mul_(&p)?).f_neg_()?
            }
        };
        grad_nv.f_scatter_add_(1, &target_n.f_unsqueeze(1)?, &logp_grad)
    }

    fn describe(&self, what: &str) -> String {
        let v = self.weight_vh.size()[0];
        let mib = (self.chunk * v * 4) >> 20;
        format!(
            "computing {what} in chunks of {} tokens × {v} logits ({mib} MiB)",
            self.chunk
        )
    }
}

/// `−Σ exp(L)·L` of every row.
fn entropy(all_nv: &Tensor) -> Result<Tensor, TchError> {
    all_nv
        .f_exp()?
        .f_mul_(all_nv)?
        .f_sum_dim_intlist(&[-1i64][..], false, None)?
        .f_neg_()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const CPU_F64: (Kind, Device) = (Kind::Double, Device::Cpu);

    /// Hidden states, weight, targets, and incoming gradients for 5 tokens and 7 words.
    fn inputs() -> [Tensor; 5] {
        tch::manual_seed(3);
        let rand = |shape: &[i64]| Tensor::randn(shape, CPU_F64);
        [
            rand(&[5, 4]),
            rand(&[7, 4]),
            Tensor::from_slice(&[0i64, 6, 3, 3, 1]),
            rand(&[5]),
            rand(&[5]),
        ]
    }

    fn head(weight_vh: &Tensor) -> TokenHead<'_> {
        TokenHead {
            weight_vh,
            temperature: 1.0,
            entropy: true,
            frozen: false,
            chunk: 8,
        }
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        f64::try_from((a - b).abs().max()).unwrap()
    }

    #[test]
    fn equals_autograd_for_every_chunk_size() {
        let [h, w, y, g, e] = inputs();
        for (chunk, temperature, with_entropy) in [
            (1, 1.0, false),
            (2, 0.7, true),
            (3, 0.7, false),
            (5, 1.3, true),
            (99, 0.7, false),
        ] {
            let [hg, wg] = [&h, &w].map(|x| x.copy().set_requires_grad(true));
            let all = (hg.linear(&wg, None::<&Tensor>) / temperature).log_softmax(-1, None);
            let logp = all.gather(1, &y.unsqueeze(1), false).squeeze_dim(1);
            let s = -(all.exp() * &all).sum_dim_intlist(&[-1i64][..], false, None);
            let mut loss = (&logp * &g).sum(Kind::Double);
            if with_entropy {
                loss += (&s * &e).sum(Kind::Double);
            }
            loss.backward();

            let head = TokenHead {
                temperature,
                entropy: with_entropy,
                chunk,
                ..head(&w)
            };
            let out = head.forward(&h, &y, true).unwrap();
            assert_eq!(out.all_nv.is_some(), chunk >= 5);
            assert!(distance(&out.logp_n, &logp) < 1e-12);
            if let Some(entropy_n) = &out.entropy_n {
                assert!(distance(entropy_n, &s) < 1e-12);
            }
            let dw = w.zeros_like();
            let entropy_grad = with_entropy.then_some(&e);
            let dh = head
                .backward(&h, &y, out, &g, entropy_grad, Some(dw.shallow_clone()))
                .unwrap();
            assert!(distance(&dh, &hg.grad()) < 1e-12);
            assert!(distance(&dw, &wg.grad()) < 1e-12);

            // A frozen weight: the same, by slopes where nothing else is kept.
            let head = TokenHead {
                frozen: true,
                ..head
            };
            let out = head.forward(&h, &y, true).unwrap();
            assert_eq!(out.slope_nh.is_some(), chunk < 5);
            let dh = head.backward(&h, &y, out, &g, entropy_grad, None).unwrap();
            assert!(distance(&dh, &hg.grad()) < 1e-12);
            assert!(head.forward(&h, &y, false).unwrap().slope_nh.is_none());
        }
    }

    #[test]
    fn certain_words_have_finite_gradients() {
        // Logits ±2000: probabilities underflow to exactly 0.
        let h = Tensor::from_slice(&[2000f32]).view([1, 1]);
        let w = Tensor::from_slice(&[1f32, -1.]).view([2, 1]);
        let y = Tensor::from_slice(&[1i64]);
        let head = head(&w);
        let out = head.forward(&h, &y, true).unwrap();
        assert_eq!(out.logp_n.double_value(&[0]), -4000.0);
        assert_eq!(out.entropy_n.as_ref().unwrap().double_value(&[0]), 0.0);
        let one = Tensor::from_slice(&[1f32]);
        let dh = head.backward(&h, &y, out, &one, Some(&one), None).unwrap();
        // ∂logp/∂h = −1 − Σ p·w = −1 − 1.
        assert_eq!(dh.double_value(&[0, 0]), -2.0);
    }

    #[test]
    fn no_tokens_are_no_numbers() {
        let [h, w, y, ..] = inputs();
        let (h, y) = (h.narrow(0, 0, 0), y.narrow(0, 0, 0));
        let out = head(&w).forward(&h, &y, true).unwrap();
        assert_eq!(out.logp_n.size(), [0]);
        assert_eq!(out.entropy_n.unwrap().size(), [0]);
    }
}
