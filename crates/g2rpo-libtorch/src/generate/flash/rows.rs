use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::Gpu;
use super::graphs::{Graphs, Unusable};
use super::part::{Part, Partial};
use super::pool::{Context, ContextPool};
use super::shape::{Shape, row_bucket, width_bucket};
use crate::cuda::VarlenKernel;
use crate::error::Doing;
use crate::generate::cache::bytes_per_position;
use crate::generate::decoding::Decoding;
use crate::generate::device::rotations;
use crate::generate::forward::Runner;
use crate::generate::prefill::Prefilled;
use crate::{DecoderConfig, Result};

/// The rows being generated, by flash attention and in steps that can be recorded.
#[derive(Debug)]
pub(in crate::generate) struct FlashRows<'a> {
    /// Before the memory that they use, because fields are dropped in this order.
    graphs: Graphs,
    gpu: &'a mut Gpu,
    step: Step<'a>,
    pool: ContextPool,
    /// Own positions of every row.
    lens: Vec<usize>,
    prompts: Vec<Option<Rc<Context>>>,
    guidance: Vec<Option<Rc<Context>>>,
    max_rows: usize,
    capacity: usize,
    own_bytes: usize,
}

/// What a step works on. All tensors stay where they are.
#[derive(Debug)]
struct Step<'a> {
    runner: &'a Runner,
    kernel: VarlenKernel,
    /// Keys and values of own positions per layer, `[max_rows · capacity, kv_heads, head_dim]`.
    own: Vec<(Tensor, Tensor)>,
    /// First own position of every row, int32, `[max_rows + 1]`.
    own_starts: Tensor,
    /// 0, 1, 2, …, int32, `[max_rows + 1]`.
    one_each: Tensor,
    /// Ids, positions, places in `own` of the new positions, and numbers of own positions with the new
    /// one, of `b` rows one behind the other; int64, `[4 · max_rows]`.
    inputs: Tensor,
    /// Cosines and sines of all positions, `[positions, 1, head_dim]`.
    rotations: (Tensor, Tensor),
    prompts: Part,
    guidance: Part,
    /// Hidden states behind the final norm, `[max_rows, h]`.
    hidden: Tensor,
}

impl<'a> FlashRows<'a> {
    /// Room for `rows` rows of `capacity` own positions behind contexts, all below `positions`; contexts
    /// take a reserve only within `max_cache_bytes`. `None` without a kernel, or where flash attention's
    /// 32 bits do not reach.
    pub(in crate::generate) fn new(
        runner: &'a Runner,
        gpu: &'a mut Gpu,
        (rows, capacity, positions): (usize, usize, usize),
        max_cache_bytes: usize,
    ) -> Result<Option<Self>> {
        let decoder = runner.decoder();
        let (config, kind, device) = (decoder.config(), decoder.kind(), decoder.device());
        let Some(kernel) = gpu.kernel else {
            return Ok(None);
        };
        if i32::try_from(rows.saturating_mul(capacity.max(positions))).is_err() {
            return Ok(None);
        }
        let per_position = bytes_per_position(config, kind);
        let own_bytes = rows * capacity * per_position;
        let most = max_cache_bytes.saturating_sub(own_bytes) / per_position.max(1);
        let int = |end: usize| Tensor::f_arange(end as i64, (Kind::Int, device));
        let step = Step {
            runner,
            kernel,
            own: own_cache(config, rows, capacity, (kind, device))?,
            own_starts: int(rows + 1)?.f_mul_scalar(capacity as i64)?,
            one_each: int(rows + 1)?,
            inputs: Tensor::f_zeros([4 * rows as i64], (Kind::Int64, device))?,
            rotations: rotations(decoder, positions)?,
            prompts: Part::new(rows, device)?,
            guidance: Part::new(rows, device)?,
            hidden: Tensor::f_zeros([rows as i64, config.hidden_size as i64], (kind, device))?,
        };
        Ok(Some(Self {
            graphs: Graphs::default(),
            gpu,
            step,
            pool: ContextPool::new(config, most.min(i32::MAX as usize), (kind, device)),
            lens: Vec::with_capacity(rows),
            prompts: Vec::with_capacity(rows),
            guidance: Vec::with_capacity(rows),
            max_rows: rows,
            capacity,
            own_bytes,
        }))
    }

    /// Writes down anew who reads what.
    fn set_readers(&mut self) -> Result<()> {
        let config = self.step.runner.decoder().config();
        let groups = (config.num_attention_heads / config.num_key_value_heads) as i64;
        (self.step.prompts).set(&refs_of(&self.prompts), groups)?;
        (self.step.guidance).set(&refs_of(&self.guidance), groups)
    }

    /// Keys and values of the rows that `order` names go to the first places.
    fn move_rows(&self, order: &[usize]) -> Result<()> {
        let moves: Vec<(usize, usize)> = (order.iter().copied().enumerate())
            .filter(|(to, from)| to != from)
            .collect();
        let longest = moves.iter().map(|m| self.lens[m.1]).max().unwrap_or(0) as i64;
        if longest == 0 {
            return Ok(());
        }
        let ids = |pick: fn(&(usize, usize)) -> usize| -> Result<Tensor> {
            let ids: Vec<i64> = moves.iter().map(|m| pick(m) as i64).collect();
            Ok(Tensor::f_from_slice(&ids)?.f_to_device(self.step.inputs.device())?)
        };
        let (to, from) = (ids(|m| m.0)?, ids(|m| m.1)?);
        for cache in self.step.own.iter().flat_map(|(k, v)| [k, v]) {
            let (_, kv_heads, d) = cache.size3()?;
            let rows = cache.f_view([self.max_rows as i64, self.capacity as i64, kv_heads, d])?;
            let mut used = rows.f_narrow(1, 0, longest)?;
            let moved = used.f_index_select(0, &from)?;
            let _ = used.f_index_copy_(0, &to, &moved)?;
        }
        Ok(())
    }
}

impl Decoding for FlashRows<'_> {
    fn bytes(&self) -> usize {
        self.own_bytes + self.pool.bytes()
    }

    fn add_rows(&mut self, filled: &Prefilled) -> Result<()> {
        let graphs = &mut self.graphs;
        let mut add =
            |contexts: &[_]| (self.pool).add(&filled.store, contexts, &mut || graphs.clear());
        let prompts = add(&filled.prompts)?;
        let guidance = add(&filled.guidance)?;
        for &(prompt, guided) in &filled.places {
            self.lens.push(0);
            self.prompts.push(prompts.get(prompt).cloned());
            (self.guidance).push(guided.and_then(|i| guidance.get(i).cloned()));
        }
        self.set_readers()
    }

    fn remove_rows(&mut self, gone: &[usize]) -> Result<()> {
        let mut order: Vec<usize> = (0..self.lens.len()).collect();
        for &row in gone.iter().rev() {
            order.swap_remove(row);
        }
        self.move_rows(&order)?;
        for &row in gone.iter().rev() {
            self.lens.swap_remove(row);
            self.prompts.swap_remove(row);
            self.guidance.swap_remove(row);
        }
        self.set_readers()
    }

    fn step(&mut self, ids: &[i64], positions: &[i64]) -> Result<Tensor> {
        let n = self.lens.len();
        let b = row_bucket(n, self.max_rows);
        // Rows that fill up see one own position, the one they write, in a place nobody else uses.
        let mut inputs = vec![0i64; 4 * b];
        inputs[..n].copy_from_slice(ids);
        inputs[b..b + n].copy_from_slice(positions);
        for row in 0..b {
            let len = self.lens.get(row).copied().unwrap_or(0);
            inputs[2 * b + row] = (row * self.capacity + len) as i64;
            inputs[3 * b + row] = len as i64 + 1;
        }
        (self.step.inputs.f_narrow(0, 0, 4 * b as i64)?)
            .f_copy_(&Tensor::f_from_slice(&inputs)?)?;
        for len in &mut self.lens {
            *len += 1;
        }
        let longest = self.lens.iter().max().copied().unwrap_or(1);
        let shape = Shape {
            rows: b as i64,
            own: width_bucket(longest),
            prompts: self.step.prompts.shape(),
            guidance: self.step.guidance.shape(),
        };
        let (step, pool) = (&self.step, &self.pool);
        let work = || step.compute(shape, pool);
        let hidden = step.hidden.f_narrow(0, 0, b as i64)?;
        match self.gpu.graphs {
            false => work()?,
            true => match self.graphs.step(shape, &hidden, work) {
                Ok(()) => {}
                Err(Unusable::Step(error)) => return Err(error),
                Err(Unusable::Graph(why)) => {
                    self.graphs.clear();
                    self.gpu.graphs = false;
                    (self.gpu.fallbacks).push(format!(
                        "decoding steps are not recorded as CUDA graphs: {why}"
                    ));
                    work()?;
                }
            },
        }
        Ok(hidden.f_narrow(0, 0, n as i64)?)
    }
}

impl Step<'_> {
    /// One position of every row, from `inputs` to `hidden`. Computing it again changes nothing.
    ///
    /// No operation here may wait for the GPU or copy from or to the host, and nothing may depend
    /// on more than `shape` and what is in tensors that stay where they are.
    fn compute(&self, shape: Shape, pool: &ContextPool) -> Result<()> {
        let decoder = self.runner.decoder();
        let b = shape.rows;
        let input = |i: i64| self.inputs.f_narrow(0, i * b, b);
        let (ids, positions, places) = (input(0)?, input(1)?, input(2)?);
        let lens = input(3)?.f_to_kind(Kind::Int)?;
        let cos = self.rotations.0.f_index_select(0, &positions)?;
        let sin = self.rotations.1.f_index_select(0, &positions)?;
        let mut x_bh = decoder.embed(&ids)?;
        for i in 0..decoder.n_layers() {
            let (q, k, v) = self.runner.qkv(i, &x_bh, &cos, &sin)?;
            let (own_k, own_v) = &self.own[i];
            for (cache, new) in [(own_k, &k), (own_v, &v)] {
                let _ = cache.shallow_clone().f_index_copy_(0, &places, new)?;
            }
            let mut attended = Partial::apart(
                self.kernel,
                &q,
                (own_k, own_v),
                (&self.one_each, &self.own_starts, &lens),
                shape.own,
            )?;
            for (part, shape) in [
                (&self.prompts, shape.prompts),
                (&self.guidance, shape.guidance),
            ] {
                let Some(shape) = shape else { continue };
                let (k, v) = &pool.layers[i];
                attended = attended.merge(&part.attend(self.kernel, shape, &q, (k, v))?)?;
            }
            let y = attended.out.f_to_kind(decoder.kind())?.f_reshape([b, -1])?;
            self.runner.finish(i, &mut x_bh, &y)?;
        }
        (self.hidden.f_narrow(0, 0, b)?).f_copy_(&decoder.final_norm(&x_bh)?)?;
        Ok(())
    }
}

fn refs_of(contexts: &[Option<Rc<Context>>]) -> Vec<Option<&Rc<Context>>> {
    contexts.iter().map(Option::as_ref).collect()
}

/// Memory for what rows generate: keys and values per layer.
fn own_cache(
    config: &DecoderConfig,
    rows: usize,
    capacity: usize,
    on: (Kind, Device),
) -> Result<Vec<(Tensor, Tensor)>> {
    let shape = [
        (rows * capacity) as i64,
        config.num_key_value_heads as i64,
        config.head_dim as i64,
    ];
    // Zeros, because the rows that fill up multiply what is there.
    let zeros = || Tensor::f_zeros(shape, on);
    (0..config.num_hidden_layers)
        .map(|_| Ok((zeros()?, zeros()?)))
        .collect::<Result<_>>()
        .doing(|| {
            let bytes = rows as u128 * capacity as u128 * bytes_per_position(config, on.0) as u128;
            format!(
                "allocating a KV cache of {bytes} bytes for {rows} rows of {capacity} positions on {:?}",
                on.1
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::on_the_cpu;
    use crate::generate::prefill::prefill;
    use crate::{Decoder, init_parameters};
    use g2rpo_rollout::{Request, RolloutKey};

    fn request(prompt: std::ops::Range<u32>, guidance: std::ops::Range<u32>) -> Request {
        Request {
            prompt: prompt.collect(),
            guidance: guidance.collect(),
            key: RolloutKey::default(),
            max_new_tokens: 9,
        }
    }

    fn addresses(rows: &FlashRows<'_>) -> (Vec<usize>, Vec<usize>) {
        let address = |t: &Tensor| t.data_ptr() as usize;
        let step = &rows.step;
        let fixed = [
            &step.own_starts,
            &step.one_each,
            &step.inputs,
            &step.rotations.0,
            &step.rotations.1,
            &step.hidden,
        ];
        let own = step.own.iter().flat_map(|(k, v)| [k, v]);
        let pool = rows.pool.layers.iter().flat_map(|(k, v)| [k, v]);
        (
            fixed.into_iter().chain(own).map(address).collect(),
            pool.map(address).collect(),
        )
    }

    /// What a record depends on: memory that stays, and steps that may be done twice. Steps of more
    /// rows than are at work give the same.
    #[test]
    fn steps_can_be_recorded() {
        tch::set_num_threads(1);
        let config = DecoderConfig::tiny_qwen3(50, 16, 2, 4, 2);
        let parameters = init_parameters(&config, 5, Kind::Float, Device::Cpu).unwrap();
        let runner = Runner::new(&Decoder::new(&config, &parameters).unwrap());
        let _no_grad = tch::no_grad_guard();
        let mut gpu = Gpu::with_kernel(on_the_cpu);
        let mut rows = FlashRows::new(&runner, &mut gpu, (7, 9, 80), 1 << 20)
            .unwrap()
            .unwrap();
        let join = |rows: &mut FlashRows<'_>, requests: &[Request]| {
            let requests: Vec<&Request> = requests.iter().collect();
            rows.add_rows(&prefill(&runner, &requests).unwrap())
                .unwrap();
        };
        join(
            &mut rows,
            &[
                request(0..5, 0..0),
                request(0..5, 7..9),
                request(0..5, 7..9),
            ],
        );
        let (fixed, pool) = addresses(&rows);
        let again = |rows: &mut FlashRows<'_>, ids: &[i64], positions: &[i64]| {
            let hidden = rows.step(ids, positions).unwrap().copy();
            let shape = Shape {
                rows: row_bucket(ids.len(), 7) as i64,
                own: 128,
                prompts: rows.step.prompts.shape(),
                guidance: rows.step.guidance.shape(),
            };
            let _ = rows.step.hidden.fill_(f64::NAN);
            rows.step.compute(shape, &rows.pool).unwrap();
            assert_eq!(rows.step.hidden.narrow(0, 0, ids.len() as i64), hidden);
            assert_eq!(addresses(rows).0, fixed);
            shape
        };
        let shape = again(&mut rows, &[1, 2, 3], &[5, 7, 7]);
        assert_eq!(shape.rows, 4);
        assert_eq!(shape.prompts.unwrap().together, Some(1));
        again(&mut rows, &[4, 5, 6], &[6, 8, 8]);
        rows.remove_rows(&[0]).unwrap();
        let shape = again(&mut rows, &[7, 8], &[9, 9]);
        assert_eq!(shape.rows, 2);
        assert_eq!(addresses(&rows).1, pool);
        join(&mut rows, &[request(3..40, 0..0), request(9..49, 1..20)]);
        let shape = again(&mut rows, &[1, 2, 3, 4], &[10, 10, 37, 59]);
        assert_eq!(shape.prompts.unwrap().together, Some(4));
        assert_eq!(shape.guidance.unwrap().together, Some(2));
        // More memory for contexts is other memory.
        assert_ne!(addresses(&rows).1, pool);
    }

    #[test]
    fn a_cache_that_does_not_fit_says_its_size() {
        let config = DecoderConfig::tiny_qwen3(4, 64, 2, 2, 2);
        let err = own_cache(&config, 1 << 30, 1 << 20, (Kind::Float, Device::Cpu))
            .unwrap_err()
            .to_string();
        assert!(
            err.starts_with("out of memory while allocating a KV cache of "),
            "{err}"
        );
    }
}
