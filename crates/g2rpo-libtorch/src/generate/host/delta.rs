//! One position of a gated delta net, in host memory.

use super::math::{combine, exp, rms_norm_row};
use super::simd::vectorised;
use super::weights::DeltaWeights;

impl DeltaWeights<'_> {
    /// Numbers that a row's recent inputs of the convolution take, `[channels, kernel - 1]`, and its memory,
    /// `[value heads, key width, value width]`.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let s = &self.shape;
        let recent = s.channels() * (s.conv_kernel - 1);
        (recent, s.value_heads * s.key_width * s.value_width)
    }

    /// Takes a row one position further: its inputs as the projections give them, one behind the other, to
    /// what the output projection reads.
    pub(super) fn step(
        &self,
        inputs: &mut [f32],
        recent: &mut [f32],
        memory: &mut [f32],
        out: &mut [f32],
    ) {
        let s = &self.shape;
        let (mixed, rest) = inputs.split_at_mut(s.channels());
        let (gate, rest) = rest.split_at_mut(s.value_heads * s.value_width);
        let (beta, pace) = rest.split_at_mut(s.value_heads);
        convolve(mixed, recent, self.convolution, s.conv_kernel);
        let keys = s.key_heads * s.key_width;
        let (queries, rest) = mixed.split_at_mut(keys);
        let (keys, values) = rest.split_at_mut(keys);
        let scale = 1.0 / (s.key_width as f32).sqrt();
        for query in queries.chunks_exact_mut(s.key_width) {
            unit(query, scale);
        }
        for key in keys.chunks_exact_mut(s.key_width) {
            unit(key, 1.0);
        }
        let group = s.value_heads / s.key_heads;
        let heads = (memory.chunks_exact_mut(s.key_width * s.value_width))
            .zip(out.chunks_exact_mut(s.value_width))
            .enumerate();
        for (head, (memory, out)) in heads {
            let start = head / group * s.key_width;
            let key = &keys[start..start + s.key_width];
            let query = &queries[start..start + s.key_width];
            let value = &mut values[head * s.value_width..][..s.value_width];
            let x = pace[head] + self.dt_bias[head];
            // softplus, as libtorch has it: above 20 it is its argument.
            let softplus = if x > 20.0 { x } else { x.exp().ln_1p() };
            let fade = (self.rates[head] * softplus).exp();
            let beta = 1.0 / (1.0 + (-beta[head]).exp());
            advance(memory, key, query, value, (fade, beta), out);
            let gate = &gate[head * s.value_width..][..s.value_width];
            gated_norm(out, &self.norm.weight, self.norm.eps, gate);
        }
    }
}

/// Scales a vector to length `scale`, as good as.
fn unit(x: &mut [f32], scale: f32) {
    let squares: f32 = x.iter().map(|x| x * x).sum();
    let factor = scale / (squares + 1e-6).sqrt();
    x.iter_mut().for_each(|x| *x *= factor);
}

vectorised! {
    /// Filters every channel over its recent inputs and this one, `x`, in place, with silu behind; this one
    /// becomes the most recent.
    fn convolve(x: &mut [f32], recent: &mut [f32], filters: &[f32], kernel: usize) {
        let filters = filters.chunks_exact(kernel);
        let recent = recent.chunks_exact_mut(kernel - 1);
        for ((x, recent), filter) in x.iter_mut().zip(recent).zip(filters) {
            let mut sum = filter[kernel - 1] * *x;
            for (&weight, &input) in filter.iter().zip(recent.iter()) {
                sum += weight * input;
            }
            recent.copy_within(1.., 0);
            recent[kernel - 2] = *x;
            *x = sum / (1.0 + exp(-sum));
        }
    }

    /// Lets the memory `[key width, value width]` fade, corrects it under the key towards the value, and reads it with
    /// the query. `value` is overwritten.
    fn advance(
        memory: &mut [f32],
        key: &[f32],
        query: &[f32],
        value: &mut [f32],
        factors: (f32, f32),
        out: &mut [f32],
    ) {
        let (fade, beta) = factors;
        let n = value.len();
        memory.iter_mut().for_each(|x| *x *= fade);
        combine(key, memory, n, out);
        for (v, &held) in value.iter_mut().zip(out.iter()) {
            *v = (*v - held) * beta;
        }
        for (row, &k) in memory.chunks_exact_mut(n).zip(key) {
            for (x, &v) in row.iter_mut().zip(value.iter()) {
                *x += k * v;
            }
        }
        combine(query, memory, n, out);
    }

    /// Norms a vector and multiplies it by silu of a gate.
    fn gated_norm(x: &mut [f32], weight: &[f32], eps: f64, gate: &[f32]) {
        rms_norm_row(x, weight, eps);
        for (x, &g) in x.iter_mut().zip(gate) {
            *x *= g / (1.0 + exp(-g));
        }
    }
}
