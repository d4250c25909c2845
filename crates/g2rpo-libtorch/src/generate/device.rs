//! Decoding on any device, by libtorch's operations one by one.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::cache::{KvCache, bytes_per_position};
use super::decoding::Decoding;
use super::forward::Runner;
use super::prefill::Prefilled;
use super::shared::{Block, Partial, Readers};
use crate::error::Doing;
use crate::error::Result;
use crate::model::context::Rotations;
use crate::model::decoder::Decoder;

/// The rows being generated on any device and in any number format, by libtorch's operations.
#[derive(Debug)]
pub(super) struct DeviceRows<'a> {
    runner: &'a Runner,
    cache: KvCache,
    cache_bytes: usize,
    /// Of all positions, `[positions, 1, head_dim]`.
    rotations: Rotations,
    /// What every row reads besides its own: contexts of blocks.
    contexts: Vec<Vec<(Rc<Block>, usize)>>,
    /// The same by block.
    readers: Vec<Readers>,
}

impl<'a> DeviceRows<'a> {
    /// Room for `rows` rows of `capacity` own positions behind contexts, all below `positions`.
    pub(super) fn new(
        runner: &'a Runner,
        rows: usize,
        capacity: usize,
        positions: usize,
    ) -> Result<Self> {
        let decoder = runner.decoder();
        let (kind, device) = (decoder.kind(), decoder.device());
        Ok(Self {
            runner,
            cache: KvCache::new(decoder.config(), rows, capacity, kind, device)?,
            cache_bytes: rows * capacity * bytes_per_position(decoder.config(), kind),
            rotations: rotations(decoder, positions)?,
            contexts: Vec::with_capacity(rows),
            readers: Vec::new(),
        })
    }

    /// Finds out anew who reads what; contexts that nobody reads are given up once they are half of
    /// their block.
    fn sort_readers(&mut self) -> Result<()> {
        self.readers.clear();
        let mut blocks: Vec<Rc<Block>> = Vec::new();
        for (block, _) in self.contexts.iter().flatten() {
            if !blocks.iter().any(|known| Rc::ptr_eq(known, block)) {
                blocks.push(Rc::clone(block));
            }
        }
        for block in blocks {
            let mut live: Vec<usize> = (self.contexts.iter().flatten())
                .filter(|(other, _)| Rc::ptr_eq(other, &block))
                .map(|&(_, context)| context)
                .collect();
            live.sort_unstable();
            live.dedup();
            let kept = match live.len() * 2 <= block.len() {
                true => Some(Rc::new(block.select(&live)?)),
                false => None,
            };
            let mut rows = Vec::new();
            for (row, contexts) in self.contexts.iter_mut().enumerate() {
                for (of, context) in contexts {
                    if !Rc::ptr_eq(of, &block) {
                        continue;
                    }
                    if let (Some(kept), Ok(place)) = (&kept, live.binary_search(context)) {
                        (*of, *context) = (Rc::clone(kept), place);
                    }
                    rows.push((*context, row));
                }
            }
            self.readers
                .push(Readers::new(kept.unwrap_or(block), &rows)?);
        }
        Ok(())
    }
}

/// Cosines and sines of the first positions, `[positions, 1, head_dim]`.
pub(super) fn rotations(decoder: &Decoder, positions: usize) -> Result<Rotations> {
    let compute = || -> Result<_> {
        let ids = Tensor::f_arange(positions as i64, (Kind::Int64, decoder.device()))?;
        decoder.rotations(&ids)
    };
    compute().doing(|| format!("computing the rotations of {positions} positions"))
}

impl Decoding for DeviceRows<'_> {
    fn bytes(&self) -> usize {
        self.cache_bytes + self.readers.iter().map(|r| r.block.bytes()).sum::<usize>()
    }

    fn add_rows(&mut self, filled: &Prefilled) -> Result<()> {
        let mut starts = vec![0; filled.guidance.len()];
        for &(prompt, guided) in &filled.places {
            if let Some(guided) = guided {
                starts[guided] = filled.prompts[prompt].len();
            }
        }
        let zeros = vec![0; filled.prompts.len()];
        let prompts = Block::new(&filled.store, &filled.prompts, &zeros)?.map(Rc::new);
        let guidance = Block::new(&filled.store, &filled.guidance, &starts)?.map(Rc::new);
        for &(prompt, guided) in &filled.places {
            let prompt = prompts.clone().map(|block| (block, prompt));
            let guided = guidance.clone().zip(guided);
            self.contexts
                .push(prompt.into_iter().chain(guided).collect());
        }
        self.cache.add_rows(filled.places.len())?;
        self.sort_readers()
    }

    fn remove_rows(&mut self, gone: &[usize]) -> Result<()> {
        let mut order: Vec<usize> = (0..self.contexts.len()).collect();
        for &row in gone.iter().rev() {
            order.swap_remove(row);
            self.contexts.swap_remove(row);
        }
        self.cache.keep_rows(&order)?;
        self.sort_readers()
    }

    fn step(&mut self, ids: &[i64], positions: &[i64]) -> Result<Tensor> {
        if self.cache.is_full() {
            self.cache.shift()?;
        }
        let decoder = self.runner.decoder();
        let config = decoder.config();
        let upload = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(decoder.device())?)
        };
        let furthest = positions.iter().max().map_or(0, |&p| p as usize);
        let positions = upload(positions)?;
        let rotations = (self.rotations).map(|table| Ok(table.f_index_select(0, &positions)?))?;
        let step = self.cache.step()?;
        let mut x_bh = decoder.embed(&upload(ids)?)?;
        let (b, _) = x_bh.size2()?;
        // Query heads that share a kv head stand one behind the other.
        let heads = [
            b,
            config.num_key_value_heads as i64,
            -1,
            config.head_dim as i64,
        ];
        for i in 0..decoder.n_layers() {
            let (q, k, v) = self.runner.qkv(i, &x_bh, &rotations)?;
            let q = q.f_reshape(heads)?;
            let (mut k, mut v) = self.cache.append(i, &step, &k, &v)?;
            let mut mask = step.mask.as_ref().map(Tensor::shallow_clone);
            let window = decoder.layers()[i].self_attn.spec.window;
            let window = window.filter(|&window| window <= furthest);
            if let Some(window) = window {
                // Rows write the same column, so the window's end is the same for all.
                let (len, kept) = (k.size()[2], k.size()[2].min(window as i64));
                k = k.f_narrow(2, len - kept, kept)?;
                v = v.f_narrow(2, len - kept, kept)?;
                mask = (mask.map(|mask| mask.f_narrow(3, len - kept, kept))).transpose()?;
            }
            let first = window
                .map(|window| positions.f_add_scalar(1 - window as i64))
                .transpose()?;
            let mut attended = Partial::new(&q, &k, &v, mask.as_ref())?;
            for readers in &self.readers {
                readers.attend(i, &q, first.as_ref(), &mut attended)?;
            }
            let y = attended.out.f_to_kind(decoder.kind())?.f_reshape([b, -1])?;
            self.runner.finish(i, &mut x_bh, &y)?;
        }
        decoder.final_norm(&x_bh)
    }
}
