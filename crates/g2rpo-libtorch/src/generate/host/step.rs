//! One position of every row, in host memory.

use super::attention::{Head, Part};
use super::context::Readers;
use super::gemm::Rows;
use super::math::{add_scaled, exp_scores, gelu_mul, rms_norm, rms_norm_row, rotate_row, silu_mul};
use super::simd::vectorised;
use super::threads::Threads;
use super::weights::{Gated, LayerWeights, MlpWeights, Norm, NormWeights, Projection, Weights};
use crate::model::config::{Activation, LayerRope};

/// A decoding step: one position of every row.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) weights: &'a Weights<'a>,
    pub(super) threads: &'a Threads,
    pub(super) rotations: &'a Tables,
    /// Room for own positions in every row.
    pub(super) capacity: usize,
    /// Own positions of every row before this step.
    pub(super) lens: &'a [usize],
    pub(super) readers: &'a [Readers],
    /// Per row its places in `readers`.
    pub(super) places: &'a [Vec<(usize, usize)>],
    /// The position of every row, counted from the start of its context.
    pub(super) positions: &'a [i64],
}

/// What positions do to queries and keys, for the layers' kinds of rotary embedding.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) main: Table,
    pub(super) local: Option<Table>,
    /// What queries are multiplied by besides, by position.
    pub(super) query_factors: Option<Vec<f32>>,
}

/// Cosines and sines, `[positions, width]`.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    pub(super) width: usize,
}

impl Tables {
    fn of(&self, rope: LayerRope) -> Option<&Table> {
        match rope {
            LayerRope::Main => Some(&self.main),
            LayerRope::Local => self.local.as_ref(),
            LayerRope::None => None,
        }
    }
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
        own: &mut [(Vec<f32>, Vec<f32>)],
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
        attended.resize(w.heads * w.head_dim * b, 0.0);
        attended_rows.resize(attended.len(), 0.0);
        for (row, &id) in ids.iter().enumerate() {
            write_column(&w.embedding[id as usize * h..][..h], row, b, residual);
        }
        if w.embedding_multiplier != 1.0 {
            residual
                .iter_mut()
                .for_each(|x| *x *= w.embedding_multiplier);
        }
        let norm = |x: &[f32], norm: &NormWeights<'_>, out: &mut [f32]| {
            let norm = norm.get();
            rms_norm(x, norm.weight, norm.eps, b, out);
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
            let (keys, values) = &mut own[i];
            norm(residual, &layer.input_norm, normed);
            projected.resize(layer.qkv.width() * b, 0.0);
            (layer.qkv).apply(self.threads, normed, b, projected, false);
            self.split_rows(layer, projected, qkv_rows, keys, values);
            // Where no row has come so far that the window ends, it changes nothing.
            let window = layer.spec.window.filter(|&window| {
                (self.positions.iter()).any(|&position| position as usize >= window)
            });
            if window.is_none() {
                self.attend_shared(i, qkv_rows, shared);
            }
            self.attend_own(i, window, qkv_rows, (keys, values), shared, attended_rows);
            for (row, values) in attended_rows.chunks_exact(w.heads * w.head_dim).enumerate() {
                write_column(values, row, b, attended);
            }
            add_product(
                &layer.o,
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
        let b = self.positions.len();
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
    /// keys and values written behind the row's own.
    fn split_rows(
        &self,
        layer: &LayerWeights<'_>,
        projected: &[f32],
        qkv_rows: &mut Vec<f32>,
        keys: &mut [f32],
        values: &mut [f32],
    ) {
        let (w, b, capacity) = (self.weights, self.positions.len(), self.capacity);
        let (d, width) = (w.head_dim, projected.len() / b);
        qkv_rows.resize(projected.len(), 0.0);
        let size = w.kv_heads * d * capacity;
        let rows = (qkv_rows.chunks_exact_mut(width))
            .zip(keys.chunks_exact_mut(size))
            .zip(values.chunks_exact_mut(size))
            .collect();
        (self.threads).each(rows, |row, ((qkv, keys), values)| {
            read_column(projected, row, b, qkv);
            let (at, position) = (self.lens[row], self.positions[row] as usize);
            let rotation = (self.rotations.of(layer.spec.rope)).map(|table| {
                let at = |numbers| row_of(numbers, position, table.width);
                (at(&table.cos), at(&table.sin))
            });
            let growth = (self.rotations.query_factors.as_ref()).map_or(1.0, |f| f[position]);
            let (q, kv) = qkv.split_at_mut(w.heads * d);
            let (k, v) = kv.split_at_mut(w.kv_heads * d);
            let norms = layer.qk_norm.as_ref();
            let query_factor = w.query_factor * growth;
            turn(q, d, norms.map(|n| n.0.get()), rotation, query_factor);
            turn(k, d, norms.map(|n| n.1.get()), rotation, 1.0);
            for (head, k) in k.chunks_exact(d).enumerate() {
                write_column(k, at, capacity, &mut keys[head * d * capacity..]);
            }
            for (head, v) in v.chunks_exact(d).enumerate() {
                values[(head * capacity + at) * d..][..d].copy_from_slice(v);
            }
        });
    }

    /// Attention to the shared contexts of layer `i`: for every context and kv head the queries of
    /// all its readers at once.
    fn attend_shared(&self, i: usize, qkv_rows: &[f32], shared: &mut Vec<Part>) {
        let w = self.weights;
        let (d, group) = (w.head_dim, w.heads / w.kv_heads);
        let width = qkv_rows.len() / self.positions.len();
        shared.resize_with(self.readers.len() * w.kv_heads, Part::default);
        (self.threads).each(shared.iter_mut().collect(), |at, part| {
            let Readers { context, rows } = &self.readers[at / w.kv_heads];
            let head = at % w.kv_heads;
            let mut queries = Vec::with_capacity(rows.len() * group * d);
            for row in rows {
                let from = row * width + head * group * d;
                queries.extend_from_slice(&qkv_rows[from..from + group * d]);
            }
            let (keys, values) = &context.layers[i];
            let size = d * context.len;
            let head = Head {
                keys: Rows::dense(&keys[head * size..][..size], context.len),
                values: &values[head * size..][..size],
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
        (keys, values): (&[f32], &[f32]),
        shared: &[Part],
        attended_rows: &mut [f32],
    ) {
        let (w, capacity) = (self.weights, self.capacity);
        let (d, group) = (w.head_dim, w.heads / w.kv_heads);
        let width = qkv_rows.len() / self.positions.len();
        let size = d * capacity;
        let rows = attended_rows.chunks_exact_mut(w.heads * d).collect();
        (self.threads).each(rows, |row, out: &mut [f32]| {
            let len = self.lens[row] + 1;
            let position = self.positions[row] as usize;
            // The first position that the row sees, of all and of its own.
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            let own_first = first.saturating_sub(position + 1 - len);
            let mut own = Part::default();
            let mut alone = vec![Part::default(); self.places[row].len()];
            for (kv_head, out) in out.chunks_exact_mut(group * d).enumerate() {
                let from = row * w.kv_heads * size + kv_head * size;
                let head = Head {
                    keys: Rows {
                        data: &keys[from + own_first..from + size],
                        width: len - own_first,
                        stride: capacity,
                    },
                    values: &values[from + own_first * d..from + len * d],
                };
                let queries = &qkv_rows[row * width + kv_head * group * d..][..group * d];
                own.compute(queries, head);
                if window.is_some() {
                    let seen = self.read_alone(i, row, first, kv_head, queries, &mut alone);
                    for (query, out) in out.chunks_exact_mut(d).enumerate() {
                        let contexts = alone[seen..].iter().map(|part| (part, query));
                        Part::merge([(&own, query)].into_iter().chain(contexts), out);
                    }
                    continue;
                }
                for (query, out) in out.chunks_exact_mut(d).enumerate() {
                    let contexts = self.places[row].iter().map(|&(which, member)| {
                        (
                            &shared[which * w.kv_heads + kv_head],
                            member * group + query,
                        )
                    });
                    Part::merge([(&own, query)].into_iter().chain(contexts), out);
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
        row: usize,
        first: usize,
        kv_head: usize,
        queries: &[f32],
        parts: &mut [Part],
    ) -> usize {
        let d = self.weights.head_dim;
        let (mut start, mut seen) = (0, 0);
        for (&(which, _), part) in self.places[row].iter().zip(parts) {
            let context = &self.readers[which].context;
            let skipped = first.saturating_sub(start).min(context.len);
            start += context.len;
            if skipped == context.len {
                seen += 1;
                continue;
            }
            let (keys, values) = &context.layers[i];
            let size = d * context.len;
            let head = Head {
                keys: Rows {
                    data: &keys[kv_head * size + skipped..(kv_head + 1) * size],
                    width: context.len - skipped,
                    stride: context.len,
                },
                values: &values[kv_head * size + skipped * d..(kv_head + 1) * size],
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
        norm: Option<Norm<'_>>,
        rotation: Option<(&[f32], &[f32])>,
        factor: f32,
    ) {
        for head in heads.chunks_exact_mut(d) {
            if let Some(norm) = norm {
                rms_norm_row(head, norm.weight, norm.eps);
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
