//! A feed-forward layer of many experts, of which every position reads a few.

use std::cell::RefCell;

use tch::Tensor;

use super::linear::Linear;
use super::mlp::Mlp;
use crate::error::Result;
use crate::model::params::float_kind;

/// Experts behind a router: the softmax over the router's logits weighs the experts, and a position's output
/// is the weighted sum over the best of them. (Shazeer et al., arXiv 1701.06538; weights as in Qwen3-MoE.)
#[derive(Debug, Clone)]
pub struct Experts {
    /// `[experts, hidden]`.
    pub router: Linear,
    /// The experts.
    pub experts: Vec<Mlp>,
    /// How many a position reads.
    pub per_position: i64,
    /// The weights of those that are read are divided by their sum.
    pub normalised: bool,
}

impl Experts {
    /// `x` of shape `[.., hidden]` to the same shape; who was read is appended to `routes`.
    pub fn forward(&self, x: &Tensor, routes: Option<&RefCell<Vec<Tensor>>>) -> Result<Tensor> {
        let h = x.size().last().copied().unwrap_or(0);
        let x_nh = x.f_reshape([-1, h])?;
        let (weight_nk, expert_nk) = self.route(&x_nh)?;
        if let Some(routes) = routes {
            routes.borrow_mut().push(expert_nk.shallow_clone());
        }
        // Positions by expert, so that every expert reads its own at once.
        let expert = expert_nk.f_flatten(0, 1)?;
        let order = expert.f_argsort(-1, false)?;
        let position = order.f_floor_divide_scalar(self.per_position)?;
        let counts = count(&expert, self.experts.len())?;
        let mut outputs = Vec::new();
        let mut start = 0;
        for (expert, &count) in self.experts.iter().zip(&counts) {
            if count > 0 {
                let read = x_nh.f_index_select(0, &position.f_narrow(0, start, count)?)?;
                outputs.push(expert.forward(&read)?);
                start += count;
            }
        }
        let back = order.f_argsort(-1, false)?;
        let y = Tensor::f_cat(&outputs, 0)?.f_index_select(0, &back)?;
        let y_nkh = y.f_view([-1, self.per_position, h])?;
        let weighted = y_nkh.f_mul(&weight_nk.f_unsqueeze(-1)?)?;
        let y_nh = weighted.f_sum_dim_intlist(&[1i64][..], false, x.kind())?;
        Ok(y_nh.f_view(&x.size()[..])?)
    }

    /// For positions `[N, hidden]` the weights of the experts they read, in `x`'s number format, and
    /// which: `[N, per_position]` each.
    fn route(&self, x_nh: &Tensor) -> Result<(Tensor, Tensor)> {
        let logits = self.router.forward(x_nh)?;
        let shares = logits.f_softmax(-1, float_kind(x_nh.kind()))?;
        let (mut weight, expert) = shares.f_topk(self.per_position, -1, true, true)?;
        if self.normalised {
            let sum = weight.f_sum_dim_intlist(&[-1i64][..], true, weight.kind())?;
            weight = weight.f_div(&sum)?;
        }
        Ok((weight.f_to_kind(x_nh.kind())?, expert))
    }
}

/// How often each of `n` experts was read at some positions (of those that `expert_nk` has), a number per
/// expert.
pub(crate) fn load(expert_nk: &Tensor, position_n: &Tensor, n: usize) -> Result<Vec<u64>> {
    let read = expert_nk.f_index_select(0, position_n)?.f_flatten(0, -1)?;
    Ok(count(&read, n)?.into_iter().map(|n| n as u64).collect())
}

/// How often each of the first `n` numbers occurs.
fn count(numbers: &Tensor, n: usize) -> Result<Vec<i64>> {
    let counts = numbers.f_bincount(None::<&Tensor>, n as i64)?;
    Ok(Vec::try_from(&counts.f_to_device(tch::Device::Cpu)?)?)
}
