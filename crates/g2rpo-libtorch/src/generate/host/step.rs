//! One position of every row, in host memory.

use super::attention::{Head, Part};
use super::context::Context;
use super::gemm::Rows;
use super::math::{add_scaled, exp_scores, gelu_mul, rms_norm, rms_norm_row, rotate_row, silu_mul};
use super::own::Own;
use super::simd::vectorised;
use super::threads::Threads;
use super::weights::{
    AttentionWeights, DeltaWeights, Gated, MixerWeights, MlpWeights, NormWeights, Projection,
    Weights,
};
use crate::generate::readers::{Reader, Shared};
use crate::model::config::Activation;
use crate::model::context::Rotations;

/// A decoding step: one position of every row.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) weights: &'a Weights<'a>,
    pub(super) threads: &'a Threads,
    /// Of all positions, `[positions, width]`.
    pub(super) rotations: &'a Rotations<Vec<f32>>,
    pub(super) positions: usize,
    /// As they are before this step.
    pub(super) rows: &'a [Reader],
    pub(super) contexts: &'a [Shared<Context>],
}

/// Activations, kept from step to step; `[features, b]` unless they go by row.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    residual: Vec<f32>,
    normed: Vec<f32>,
    projected: Vec<f32>,
    attended: Vec<f32>,
    /// Queries, keys and values of each row, `[b, (heads + 2 kv_heads) · head_dim]`.
    qkv_rows: Vec<f32>,
    /// Attention output of each row, `[b, heads · head_dim]`.
    attended_rows: Vec<f32>,
    /// Attention to shared contexts, by context and kv head.
    shared: Vec<Part>,
}

impl Step<'_> {
    /// Embeds the ids, passes all layers and the final norm; `own` are the rows' own keys and
    /// values of every layer, to which one position is added.
    pub(super) fn run(
        &self,
        ids: &[i64],
        scratch: &mut Scratch,
        own: &mut [Own],
        hidden_bh: &mut [f32],
    ) {
        let (w, b) = (self.weights, ids.len());
        let h = w.hidden;
        let Scratch {
            residual,
            normed,
            projected,
            attended,
            qkv_rows,
            attended_rows,
            shared,
        } = scratch;
        residual.resize(h * b, 0.0);
        normed.resize(h * b, 0.0);
        for (row, &id) in ids.iter().enumerate() {
            write_column(&w.embedding[id as usize * h..][..h], row, b, residual);
        }
        if w.embedding_multiplier != 1.0 {
            residual
                .iter_mut()
                .for_each(|x| *x *= w.embedding_multiplier);
        }
        let norm = |x: &[f32], norm: &NormWeights<'_>, out: &mut [f32]| {
            rms_norm(x, &norm.weight, norm.eps, b, out);
        };
        // Adds what a part puts out to the residual stream.
        let add = |out: &[f32],
                   output_norm: &Option<NormWeights<'_>>,
                   residual: &mut [f32],
                   normed: &mut [f32]| {
            match output_norm {
                Some(output_norm) => {
                    norm(out, output_norm, normed);
                    add_scaled(residual, normed, w.residual_multiplier);
                }
                None => add_scaled(residual, out, w.residual_multiplier),
            }
        };
        // The same for a product, at once where nothing is to be done to it.
        let plain = w.residual_multiplier == 1.0;
        let add_product = |part: &Projection<'_>,
                           output_norm: &Option<NormWeights<'_>>,
                           input: &[f32],
                           residual: &mut [f32],
                           normed: &mut [f32]| {
            if plain && output_norm.is_none() {
                part.apply(self.threads, input, b, residual, true);
                return;
            }
            let mut out = vec![0f32; residual.len()];
            part.apply(self.threads, input, b, &mut out, false);
            add(&out, output_norm, residual, normed);
        };
        for (i, layer) in w.layers.iter().enumerate() {
            norm(residual, &layer.input_norm, normed);
            match &layer.mixer {
                MixerWeights::Attention(attention) => {
                    projected.resize(attention.qkv.width() * b, 0.0);
                    (attention.qkv).apply(self.threads, normed, b, projected, false);
                    self.split_rows(attention, projected, qkv_rows, &mut own[i]);
                    // Where no row has come so far that the window ends, it changes nothing.
                    let window = attention
                        .spec
                        .window
                        .filter(|&window| self.rows.iter().any(|row| row.position() >= window));
                    if window.is_none() {
                        self.attend_shared(i, qkv_rows, shared);
                    }
                    attended_rows.resize(w.heads * w.head_dim * b, 0.0);
                    self.attend_own(i, window, qkv_rows, &own[i], shared, attended_rows);
                    if attention.output_gate {
                        close_gates(attended_rows, qkv_rows, b);
                    }
                }
                MixerWeights::DeltaNet(net) => {
                    projected.resize(net.inputs.width() * b, 0.0);
                    (net.inputs).apply(self.threads, normed, b, projected, false);
                    let width = layer.output.input();
                    attended_rows.resize(width * b, 0.0);
                    self.advance(net, projected, qkv_rows, &mut own[i], attended_rows);
                }
            }
            let width = attended_rows.len() / b;
            attended.resize(attended_rows.len(), 0.0);
            for (row, values) in attended_rows.chunks_exact(width).enumerate() {
                write_column(values, row, b, attended);
            }
            add_product(
                &layer.output,
                &layer.attention_output_norm,
                attended,
                residual,
                normed,
            );

            norm(residual, &layer.mlp_norm, normed);
            match &layer.mlp {
                MlpWeights::One(mlp) => {
                    let gated = self.gate(mlp, normed, b, projected);
                    add_product(&mlp.down, &layer.mlp_output_norm, gated, residual, normed);
                }
                MlpWeights::Experts {
                    router,
                    experts,
                    per_position,
                    normalised,
                } => {
                    projected.resize(experts.len() * b, 0.0);
                    router.apply(self.threads, normed, b, projected, false);
                    let readers = route(projected, experts.len(), *per_position, *normalised);
                    let mut out = vec![0f32; residual.len()];
                    self.read_experts(experts, &readers, normed, &mut out);
                    add(&out, &layer.mlp_output_norm, residual, normed);
                }
            }
        }
        norm(residual, &w.norm, normed);
        if w.output_factor != 1.0 {
            normed.iter_mut().for_each(|x| *x *= w.output_factor);
        }
        for (row, hidden) in hidden_bh.chunks_exact_mut(h).enumerate() {
            read_column(normed, row, b, hidden);
        }
    }

    /// `f(gate(x)) · up(x)` for `x` of shape `[hidden, b]`, as the first half of `projected`.
    fn gate<'p>(
        &self,
        mlp: &Gated<'_>,
        x: &[f32],
        b: usize,
        projected: &'p mut Vec<f32>,
    ) -> &'p [f32] {
        let n = mlp.gate_up.width() / 2 * b;
        projected.resize(2 * n, 0.0);
        (mlp.gate_up).apply(self.threads, x, b, projected, false);
        let (gate, up) = projected.split_at_mut(n);
        let share = self.threads.share(n, 1, n);
        let chunks = gate.chunks_mut(share).zip(up.chunks(share)).collect();
        (self.threads).each(chunks, |_, (gate, up): (&mut [f32], &[f32])| {
            match self.weights.activation {
                Activation::Silu => silu_mul(gate, up),
                Activation::GeluTanh => gelu_mul(gate, up),
            }
        });
        gate
    }

    /// The weighted sums of what the experts put out for the rows that read them, `[hidden, b]`.
    fn read_experts(
        &self,
        experts: &[Gated<'_>],
        readers: &[Vec<(usize, f32)>],
        normed: &[f32],
        out: &mut [f32],
    ) {
        let b = self.rows.len();
        let mut projected = Vec::new();
        for (expert, readers) in experts.iter().zip(readers) {
            let n = readers.len();
            if n == 0 {
                continue;
            }
            let mut read = Vec::with_capacity(self.weights.hidden * n);
            for feature in normed.chunks_exact(b) {
                read.extend(readers.iter().map(|&(row, _)| feature[row]));
            }
            let gated = self.gate(expert, &read, n, &mut projected);
            let mut y = vec![0f32; read.len()];
            (expert.down).apply(self.threads, gated, n, &mut y, false);
            for (out, y) in out.chunks_exact_mut(b).zip(y.chunks_exact(n)) {
                for (&(row, weight), y) in readers.iter().zip(y) {
                    out[row] += weight * y;
                }
            }
        }
    }

    /// Queries, keys and values row by row: normed, turned, queries multiplied by what scores are,
    /// keys and values written among the row's own; behind them the gates of the outputs, if there are any.
    fn split_rows(
        &self,
        attention: &AttentionWeights<'_>,
        projected: &[f32],
        qkv_rows: &mut Vec<f32>,
        own: &mut Own,
    ) {
        let (w, b, columns) = (self.weights, self.rows.len(), own.columns);
        let (d, width) = (w.head_dim, projected.len() / b);
        qkv_rows.resize(projected.len(), 0.0);
        let size = own.sizes.0;
        let rows = (qkv_rows.chunks_exact_mut(width))
            .zip(own.first.chunks_exact_mut(size))
            .zip(own.second.chunks_exact_mut(size))
            .collect();
        (self.threads).each(rows, |row, ((qkv, keys), values)| {
            read_column(projected, row, b, qkv);
            if attention.output_gate {
                gates_behind(qkv, w.heads, d);
            }
            let reader = &self.rows[row];
            let (at, position) = (reader.own % columns, reader.position());
            let rotation = (self.rotations.of(attention.spec.rope)).map(|(cos, sin)| {
                let width = cos.len() / self.positions;
                (row_of(cos, position, width), row_of(sin, position, width))
            });
            let growth = (self.rotations.query_factor.as_ref()).map_or(1.0, |f| f[position]);
            let (q, kv) = qkv.split_at_mut(w.heads * d);
            let (k, v) = kv[..2 * w.kv_heads * d].split_at_mut(w.kv_heads * d);
            let norms = attention.qk_norm.as_ref();
            let query_factor = w.query_factor * growth;
            turn(q, d, norms.map(|n| &n.0), rotation, query_factor);
            turn(k, d, norms.map(|n| &n.1), rotation, 1.0);
            for (head, k) in k.chunks_exact(d).enumerate() {
                write_column(k, at, columns, &mut keys[head * d * columns..]);
            }
            for (head, v) in v.chunks_exact(d).enumerate() {
                values[(head * columns + at) * d..][..d].copy_from_slice(v);
            }
        });
    }

    /// A position of every row of a delta net: its inputs, projected, to what the last matrix reads.
    fn advance(
        &self,
        net: &DeltaWeights<'_>,
        projected: &[f32],
        input_rows: &mut Vec<f32>,
        own: &mut Own,
        out_rows: &mut [f32],
    ) {
        let b = self.rows.len();
        input_rows.resize(projected.len(), 0.0);
        let (inputs, outputs) = (projected.len() / b, out_rows.len() / b);
        let rows = (input_rows
            .chunks_exact_mut(inputs)
            .zip(out_rows.chunks_exact_mut(outputs)))
        .zip(own.first.chunks_exact_mut(own.sizes.0))
        .zip(own.second.chunks_exact_mut(own.sizes.1))
        .collect();
        (self.threads).each(rows, |row, (((inputs, out), recent), memory)| {
            read_column(projected, row, b, inputs);
            net.step(inputs, recent, memory, out);
        });
    }

    /// Attention to the shared contexts of layer `i`: for every context and kv head the queries of
    /// all its readers at once.
    fn attend_shared(&self, i: usize, qkv_rows: &[f32], shared: &mut Vec<Part>) {
        let w = self.weights;
        let (d, group) = (w.head_dim, w.heads / w.kv_heads);
        let width = qkv_rows.len() / self.rows.len();
        shared.resize_with(self.contexts.len() * w.kv_heads, Part::default);
        (self.threads).each(shared.iter_mut().collect(), |at, part| {
            let context = &self.contexts[at / w.kv_heads];
            let rows = &context.rows;
            let head = at % w.kv_heads;
            let mut queries = Vec::with_capacity(rows.len() * group * d);
            for row in rows {
                let from = row * width + head * group * d;
                queries.extend_from_slice(&qkv_rows[from..from + group * d]);
            }
            let Some(layer) = &context.kept.0[i] else {
                return;
            };
            let size = d * layer.len;
            let head = Head {
                keys: Rows::dense(&layer.keys[head * size..][..size], layer.len),
                values: &layer.values[head * size..][..size],
            };
            part.compute(&queries, head);
        });
    }

    /// Attention of every row of layer `i` to its own positions, joined with that to shared contexts,
    /// which a row reads by itself if a window ends in them.
    fn attend_own(
        &self,
        i: usize,
        window: Option<usize>,
        qkv_rows: &[f32],
        own: &Own,
        shared: &[Part],
        attended_rows: &mut [f32],
    ) {
        let (w, columns) = (self.weights, own.columns);
        let (d, group) = (w.head_dim, w.heads / w.kv_heads);
        let width = qkv_rows.len() / self.rows.len();
        let size = d * columns;
        let rows = attended_rows.chunks_exact_mut(w.heads * d).collect();
        (self.threads).each(rows, |row, out: &mut [f32]| {
            // All that is kept is seen, in any order.
            let reader = &self.rows[row];
            let len = (reader.own + 1).min(columns);
            let first = window.map_or(0, |window| (reader.position() + 1).saturating_sub(window));
            let mut mine = Part::default();
            let mut alone = vec![Part::default(); reader.reads.len()];
            for (kv_head, out) in out.chunks_exact_mut(group * d).enumerate() {
                let from = row * w.kv_heads * size + kv_head * size;
                let head = Head {
                    keys: Rows {
                        data: &own.first[from..from + size],
                        width: len,
                        stride: columns,
                    },
                    values: &own.second[from..from + len * d],
                };
                let queries = &qkv_rows[row * width + kv_head * group * d..][..group * d];
                mine.compute(queries, head);
                if window.is_some() {
                    let seen = self.read_alone(i, reader, first, kv_head, queries, &mut alone);
                    for (query, out) in out.chunks_exact_mut(d).enumerate() {
                        let contexts = alone[seen..].iter().map(|part| (part, query));
                        Part::merge([(&mine, query)].into_iter().chain(contexts), out);
                    }
                    continue;
                }
                for (query, out) in out.chunks_exact_mut(d).enumerate() {
                    let contexts = reader.reads.iter().map(|&(which, member)| {
                        (
                            &shared[which * w.kv_heads + kv_head],
                            member * group + query,
                        )
                    });
                    Part::merge([(&mine, query)].into_iter().chain(contexts), out);
                }
            }
        });
    }
}

impl Step<'_> {
    /// Attention of one row to the contexts that it reads from position `first` on, one part for each;
    /// the first part that sees anything.
    fn read_alone(
        &self,
        i: usize,
        row: &Reader,
        first: usize,
        kv_head: usize,
        queries: &[f32],
        parts: &mut [Part],
    ) -> usize {
        let d = self.weights.head_dim;
        let mut seen = 0;
        for (&(which, _), part) in row.reads.iter().zip(parts) {
            let context = &self.contexts[which];
            let Some(layer) = &context.kept.0[i] else {
                continue;
            };
            // What is kept of it is its end.
            let start = context.start + context.len - layer.len;
            let skipped = first.saturating_sub(start).min(layer.len);
            if skipped == layer.len {
                seen += 1;
                continue;
            }
            let size = d * layer.len;
            let head = Head {
                keys: Rows {
                    data: &layer.keys[kv_head * size + skipped..(kv_head + 1) * size],
                    width: layer.len - skipped,
                    stride: layer.len,
                },
                values: &layer.values[kv_head * size + skipped * d..(kv_head + 1) * size],
            };
            part.compute(queries, head);
        }
        seen
    }
}

vectorised! {
    /// Norms the heads of one position, turns them and multiplies them by a factor.
    fn turn(
        heads: &mut [f32],
        d: usize,
        norm: Option<&NormWeights<'_>>,
        rotation: Option<(&[f32], &[f32])>,
        factor: f32,
    ) {
        for head in heads.chunks_exact_mut(d) {
            if let Some(norm) = norm {
                rms_norm_row(head, &norm.weight, norm.eps);
            }
            if let Some((cos, sin)) = rotation {
                rotate_row(&mut head[..cos.len()], cos, sin);
            }
            for x in head {
                *x *= factor;
            }
        }
    }
}

/// Puts the gates, which stand behind each head's query, behind everything.
fn gates_behind(qkv: &mut [f32], heads: usize, d: usize) {
    let both = qkv[..2 * heads * d].to_vec();
    qkv.copy_within(2 * heads * d.., heads * d);
    let behind = qkv.len() - heads * d;
    for (head, both) in both.chunks_exact(2 * d).enumerate() {
        qkv[head * d..][..d].copy_from_slice(&both[..d]);
        qkv[behind + head * d..][..d].copy_from_slice(&both[d..]);
    }
}

/// Multiplies what attention put out by the sigmoids of the gates, which are the last of every row.
fn close_gates(attended_rows: &mut [f32], qkv_rows: &[f32], b: usize) {
    let (n, width) = (attended_rows.len() / b, qkv_rows.len() / b);
    for (out, qkv) in (attended_rows.chunks_exact_mut(n)).zip(qkv_rows.chunks_exact(width)) {
        for (x, gate) in out.iter_mut().zip(&qkv[width - n..]) {
            *x /= 1.0 + (-gate).exp();
        }
    }
}

/// Per expert the rows that read it and its weight for them, from the router's logits `[experts, b]`.
fn route(
    logits: &[f32],
    experts: usize,
    per_position: usize,
    normalised: bool,
) -> Vec<Vec<(usize, f32)>> {
    let b = logits.len() / experts;
    let mut readers = vec![Vec::new(); experts];
    let mut shares = vec![0f32; experts];
    for row in 0..b {
        read_column(logits, row, b, &mut shares);
        let (_, total) = exp_scores(&mut shares);
        let mut best: Vec<usize> = (0..experts).collect();
        best.sort_by(|&i, &j| shares[j].total_cmp(&shares[i]));
        best.truncate(per_position);
        let total = match normalised {
            true => best.iter().map(|&i| shares[i]).sum(),
            false => total,
        };
        for expert in best {
            readers[expert].push((row, shares[expert] / total));
        }
    }
    readers
}

/// Row `at` of `[.., width]`.
fn row_of(numbers: &[f32], at: usize, width: usize) -> &[f32] {
    &numbers[at * width..][..width]
}

/// Column `at` of `[features, b]`.
fn read_column(matrix: &[f32], at: usize, b: usize, out: &mut [f32]) {
    for (to, &from) in out.iter_mut().zip(matrix[at..].iter().step_by(b)) {
        *to = from;
    }
}

/// Overwrites column `at` of `[features, b]`.
fn write_column(values: &[f32], at: usize, b: usize, matrix: &mut [f32]) {
    for (&from, to) in values.iter().zip(matrix[at..].iter_mut().step_by(b)) {
        *to = from;
    }
}
