//! The gated delta net: a mixer of positions with a memory of fixed size in place of keys and values.

use tch::{Kind, Tensor};

use super::context::{Context, Pattern};
use super::handle::Handle;
use super::linear::{Linear, Parallel};
use super::norm::RmsNorm;
use crate::error::Result;
use crate::model::config::DeltaNetConfig;
use crate::model::params::float_kind;

/// Positions whose products are computed together.
const CHUNK: i64 = 64;

/// Added to a sum of squares before its root.
const L2_EPS: f64 = 1e-6;

/// Gated delta net (Yang et al., arXiv 2412.06464) behind a short causal convolution, as in Qwen3.5.
///
/// Every value head keeps a matrix `S` of `[key width, value width]`. A position lets it fade, corrects what it
/// holds under the position's key towards the position's value, and reads it with the query:
/// `S ← e^g·S`, `S ← S + k ⊗ β·(v − Sᵀk)`, `o = Sᵀq`, where `g ≤ 0` and `β` in (0, 1) are the position's own.
#[derive(Debug, Clone)]
pub struct DeltaNet {
    /// Queries, keys and values; the output's gate; what `β` and `g` are made of: `[.., hidden]`.
    pub inputs: Parallel,
    /// `[channels, 1, kernel]`, a filter for each channel of queries, keys and values.
    pub convolution: Handle,
    /// Added to what `g` is made of, `[value heads]`.
    pub dt_bias: Handle,
    /// Logarithm of how fast each head forgets, `[value heads]`.
    pub a_log: Handle,
    /// Of what a head reads, `[value width]`.
    pub norm: RmsNorm,
    /// `[hidden, value heads · value width]`.
    pub out_proj: Linear,
    /// Numbers and widths of heads.
    pub shape: DeltaNetConfig,
}

/// What rows leave behind at a position, all that later positions need.
#[derive(Debug)]
pub struct DeltaState {
    /// The last inputs of the convolution, `[B, channels, kernel - 1]`.
    pub recent: Tensor,
    /// The heads' memories, in f32 at least, `[B, value heads, key width, value width]`.
    pub memory: Tensor,
}

impl DeltaState {
    /// The states of some rows.
    pub(crate) fn select(&self, rows: &Tensor) -> Result<Self> {
        Ok(Self {
            recent: self.recent.f_index_select(0, rows)?,
            memory: self.memory.f_index_select(0, rows)?,
        })
    }

    /// These rows and then others.
    pub(crate) fn join(&self, others: &Self) -> Result<Self> {
        Ok(Self {
            recent: Tensor::f_cat(&[&self.recent, &others.recent], 0)?,
            memory: Tensor::f_cat(&[&self.memory, &others.memory], 0)?,
        })
    }
}

impl DeltaNet {
    /// `x` of shape `[B, T, hidden]` to the same shape; packed sequences know nothing of one another.
    pub fn forward(&self, x: &Tensor, context: &Context) -> Result<Tensor> {
        let mixed = match &context.pattern {
            Pattern::Causal => self.mix(x, None, None)?.0,
            Pattern::Packed(lengths) => {
                let mut start = 0;
                let mut rows = Vec::with_capacity(lengths.len());
                for &length in lengths {
                    rows.push(self.mix(&x.f_narrow(1, start, length)?, None, None)?.0);
                    start += length;
                }
                Tensor::f_cat(&rows, 1)?
            }
        };
        self.out_proj.forward(&mixed)
    }

    /// What the output projection reads, `[B, T, value heads · value width]`, for rows that go on from `before`
    /// (from nothing if `None`) and are `lens` long, padded on the right (T if `None`); and the states at
    /// their ends.
    pub(crate) fn mix(
        &self,
        x: &Tensor,
        before: Option<&DeltaState>,
        lens: Option<&Tensor>,
    ) -> Result<(Tensor, DeltaState)> {
        let (b, t, _) = x.size3()?;
        let [key_heads, heads, key_width, value_width] = self.shape.sizes();
        let (keys, values) = (key_heads * key_width, heads * value_width);
        let parts = (self.inputs).forward(x, &[2 * keys + values, values, heads, heads])?;
        let (mixed, recent) = self.convolve(&parts[0], before, lens)?;
        let wide = float_kind(x.kind());
        let split = mixed.f_split_with_sizes(&[keys, keys, values][..], -1)?;
        // [B, value heads, T, width]; a key head serves the value heads of its group.
        let of_heads = |y: &Tensor, n: i64| -> Result<Tensor> {
            let y = y.f_reshape([b, t, n, -1])?.f_to_kind(wide)?;
            let y = match n == heads {
                true => y,
                false => y.f_repeat_interleave_self_int(heads / n, 2, None)?,
            };
            Ok(y.f_transpose(1, 2)?)
        };
        let unit = |y: Tensor| -> Result<Tensor> {
            let squares = y.f_square()?.f_sum_dim_intlist(&[-1i64][..], true, wide)?;
            Ok(y.f_mul(&squares.f_add_scalar(L2_EPS)?.f_rsqrt()?)?)
        };
        let scale = 1.0 / (key_width as f64).sqrt();
        let q = unit(of_heads(&split[0], key_heads)?)?.f_mul_scalar(scale)?;
        let k = unit(of_heads(&split[1], key_heads)?)?;
        let v = of_heads(&split[2], heads)?;
        let mut beta = parts[2].f_sigmoid()?.f_to_kind(wide)?;
        let rate = self.a_log.f_to_kind(wide)?.f_exp()?.f_neg()?;
        let pace = (parts[3].f_to_kind(wide)?.f_add(&self.dt_bias)?).f_softplus()?;
        let mut g = pace.f_mul(&rate)?;
        if let Some(lens) = lens {
            // Padding neither fades a memory nor writes to it.
            let positions = Tensor::f_arange(t, (Kind::Int64, x.device()))?;
            let inside = positions
                .f_lt_tensor(&lens.f_unsqueeze(1)?)?
                .f_unsqueeze(2)?;
            (beta, g) = (beta.f_mul(&inside)?, g.f_mul(&inside)?);
        }
        let turned = |y: Tensor| y.f_transpose(1, 2);
        let memory = before.map(|state| &state.memory);
        let (read, memory) = scan(&q, &k, &v, &turned(beta)?, &turned(g)?, memory)?;
        // [B, T, heads, width]
        let read = read.f_transpose(1, 2)?.f_to_kind(x.kind())?;
        let gate = parts[1].f_view([b, t, heads, -1])?.f_to_kind(wide)?;
        let gated = (self.norm.forward(&read)?.f_mul(&gate.f_silu()?)?).f_to_kind(x.kind())?;
        Ok((gated.f_reshape([b, t, -1])?, DeltaState { recent, memory }))
    }

    /// The convolution of `[B, T, channels]` and its activation, and the last inputs of every row.
    fn convolve(
        &self,
        x: &Tensor,
        before: Option<&DeltaState>,
        lens: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let (b, t, channels) = x.size3()?;
        let kept = self.shape.conv_kernel as i64 - 1;
        let before = match before {
            Some(state) => state.recent.shallow_clone(),
            None => Tensor::f_zeros([b, channels, kept], (x.kind(), x.device()))?,
        };
        let padded = Tensor::f_cat(&[before, x.f_transpose(1, 2)?], 2)?;
        let y = padded.f_conv1d(&self.convolution, None::<&Tensor>, 1, 0, 1, channels)?;
        let recent = match lens {
            None => padded.f_narrow(2, t, kept)?,
            Some(lens) => {
                let places = (lens.f_unsqueeze(1)?)
                    .f_add(&Tensor::f_arange(kept, (Kind::Int64, x.device()))?)?;
                let places = places
                    .f_unsqueeze(1)?
                    .f_expand([b, channels, kept], false)?;
                padded.f_gather(2, &places, false)?
            }
        };
        Ok((y.f_silu()?.f_transpose(1, 2)?, recent))
    }
}

/// What queries read, and the memory at the end: q, k and v `[B, heads, T, width]`, `beta` and `g`
/// `[B, heads, T]`.
///
/// Inside a chunk the corrections of all positions follow from one triangular system (the WY form), so only
/// chunks come one after another.
fn scan(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    beta: &Tensor,
    g: &Tensor,
    memory: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let (b, heads, t, key_width) = q.size4()?;
    let value_width = v.size4()?.3;
    let chunk = t.min(CHUNK);
    let n = (t + chunk - 1) / chunk;
    let padding = n * chunk - t;
    // [B, heads, chunks, positions, ..]
    let cut = |x: &Tensor, width: i64| -> Result<Tensor> {
        let x = match (padding, width) {
            (0, _) => x.shallow_clone(),
            (_, 0) => x.f_constant_pad_nd([0, padding])?,
            _ => x.f_constant_pad_nd([0, 0, 0, padding])?,
        };
        Ok(match width {
            0 => x.f_reshape([b, heads, n, chunk])?,
            _ => x.f_reshape([b, heads, n, chunk, width])?,
        })
    };
    let (q, k, v) = (cut(q, key_width)?, cut(k, key_width)?, cut(v, value_width)?);
    let beta = cut(beta, 0)?.f_unsqueeze(-1)?;
    // How much a memory has faded from the chunk's start to a position, and between two positions.
    let faded = cut(g, 0)?.f_cumsum(3, g.kind())?;
    let later = Tensor::f_ones([chunk, chunk], (Kind::Bool, q.device()))?.f_triu(1)?;
    let between = (faded.f_unsqueeze(4)?.f_sub(&faded.f_unsqueeze(3)?)?)
        .f_masked_fill(&later, f64::NEG_INFINITY)?
        .f_exp()?;
    let from_start = faded.f_exp()?.f_unsqueeze(-1)?;
    let last = faded.f_narrow(3, chunk - 1, 1)?;
    let to_end = last.f_sub(&faded)?.f_exp()?.f_unsqueeze(-1)?;
    let whole = last.f_exp()?.f_unsqueeze(-1)?;

    let k_beta = k.f_mul(&beta)?;
    let keys_t = k.f_transpose(-1, -2)?;
    let system = k_beta.f_matmul(&keys_t)?.f_mul(&between)?;
    let (mut new, mut old) = (v.f_mul(&beta)?, k_beta.f_mul(&from_start)?);
    if chunk > 1 {
        new = system.f_linalg_solve_triangular(&new, false, true, true)?;
        old = system.f_linalg_solve_triangular(&old, false, true, true)?;
    }
    let inside = q.f_matmul(&keys_t)?.f_mul(&between)?;
    let (q, k_t) = (
        q.f_mul(&from_start)?,
        k.f_mul(&to_end)?.f_transpose(-1, -2)?,
    );

    let mut memory = match memory {
        Some(memory) => memory.shallow_clone(),
        None => Tensor::f_zeros([b, heads, key_width, value_width], (q.kind(), q.device()))?,
    };
    let mut outputs = Vec::with_capacity(n as usize);
    for i in 0..n {
        let at = |x: &Tensor| x.f_select(2, i);
        let written = at(&new)?.f_sub(&at(&old)?.f_matmul(&memory)?)?;
        let read = at(&q)?.f_matmul(&memory)?;
        outputs.push(read.f_add(&at(&inside)?.f_matmul(&written)?)?);
        memory = (memory.f_mul(&at(&whole)?)?).f_add(&at(&k_t)?.f_matmul(&written)?)?;
    }
    Ok((Tensor::f_cat(&outputs, 2)?.f_narrow(2, 0, t)?, memory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// The definition, position by position.
    fn plain(parts: [&Tensor; 5], mut memory: Tensor) -> (Tensor, Tensor) {
        let [q, k, v, beta, g] = parts;
        let mut outputs = Vec::new();
        for i in 0..q.size()[2] {
            let [q, k, v] = [q, k, v].map(|x| x.select(2, i).unsqueeze(-1));
            let of = |x: &Tensor| x.select(2, i).unsqueeze(-1).unsqueeze(-1);
            memory = &memory * of(g).exp();
            let held = memory.transpose(2, 3).matmul(&k);
            memory = &memory + k.matmul(&((v - held) * of(beta)).transpose(2, 3));
            outputs.push(memory.transpose(2, 3).matmul(&q).squeeze_dim(-1));
        }
        (Tensor::stack(&outputs, 2), memory)
    }

    #[test]
    fn chunks_give_what_single_positions_give() {
        tch::manual_seed(5);
        let on = (Kind::Double, Device::Cpu);
        let off = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap();
        for t in [1i64, 2, 63, 64, 65, 200] {
            let of = |width: i64| Tensor::randn([2, 3, t, width], on);
            let (q, k, v) = (of(5), of(5) * 0.3, of(4));
            let beta = Tensor::rand([2, 3, t], on);
            let g = -Tensor::rand([2, 3, t], on);
            let memory = Tensor::randn([2, 3, 5, 4], on);
            let (expected, end) = plain([&q, &k, &v, &beta, &g], memory.shallow_clone());
            let (got, got_end) = scan(&q, &k, &v, &beta, &g, Some(&memory)).unwrap();
            assert!(
                off(&got, &expected) < 1e-10 && off(&got_end, &end) < 1e-10,
                "{t}"
            );
        }
    }
}
