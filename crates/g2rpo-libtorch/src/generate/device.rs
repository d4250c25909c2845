//! Decoding on any device, by libtorch's operations one by one.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::cache::{KvCache, bytes_of, state_bytes};
use super::decoding::Decoding;
use super::forward::Runner;
use super::partial::Partial;
use super::prefill::Prefilled;
use super::readers::{Reader, Readers, upload};
use super::shared::{Block, BlockReaders, Place};
use crate::error::{Doing, Result};
use crate::model::DeltaState;
use crate::model::context::Rotations;
use crate::model::decoder::{Decoder, Mixer};

/// The rows being generated on any device and in any number format, by libtorch's operations.
#[derive(Debug)]
pub(super) struct DeviceRows<'a> {
    runner: &'a Runner,
    cache: KvCache,
    cache_bytes: usize,
    /// Of all positions, `[positions, 1, head_dim]`.
    rotations: Rotations,
    /// By layer, what delta nets have made of the rows so far.
    states: Vec<Option<DeltaState>>,
    readers: Readers<Place>,
    /// The same by block.
    blocks: Vec<BlockReaders>,
}

impl<'a> DeviceRows<'a> {
    /// Room for `rows` rows of `capacity` own positions behind contexts, all below `positions`.
    pub(super) fn new(
        runner: &'a Runner,
        rows: usize,
        capacity: usize,
        positions: usize,
    ) -> Result<Self> {
        let decoder = &runner.decoder;
        let (kind, device) = (decoder.kind(), decoder.device());
        Ok(Self {
            runner,
            cache: KvCache::new(decoder.config(), rows, capacity, kind, device)?,
            cache_bytes: rows * bytes_of(decoder.config(), kind, capacity),
            states: (0..decoder.n_layers()).map(|_| None).collect(),
            rotations: rotations(decoder, positions)?,
            readers: Readers::new(rows),
            blocks: Vec::new(),
        })
    }

    /// Finds out anew who reads the blocks, which give up what nobody reads once it is half of them.
    fn sort_blocks(&mut self) -> Result<()> {
        self.blocks.clear();
        let contexts = &mut self.readers.contexts;
        for contexts in contexts.chunk_by_mut(|a, b| Rc::ptr_eq(&a.kept.block, &b.kept.block)) {
            let mut block = Rc::clone(&contexts[0].kept.block);
            if contexts.len() * 2 <= block.len() {
                let live: Vec<usize> = contexts.iter().map(|context| context.kept.at).collect();
                block = Rc::new(block.select(&live)?);
                for (at, context) in contexts.iter_mut().enumerate() {
                    let block = Rc::clone(&block);
                    context.kept = Place { block, at };
                }
            }
            self.blocks.push(BlockReaders::new(block, contexts)?);
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
        let decoder = &self.runner.decoder;
        let states = self.readers.rows.len() * state_bytes(decoder.config(), decoder.kind());
        let blocks: usize = self.blocks.iter().map(|r| r.block.bytes()).sum();
        self.cache_bytes + states + blocks
    }

    fn add_rows(&mut self, filled: &Prefilled) -> Result<()> {
        // Prompts are one block, guidance is another.
        let mut places = Vec::with_capacity(filled.joining.contexts.len());
        for contexts in filled
            .joining
            .contexts
            .chunk_by(|a, b| (a.1 == 0) == (b.1 == 0))
        {
            let block = Rc::new(Block::new(&filled.store, contexts)?);
            places.extend((0..contexts.len()).map(|at| Place {
                block: Rc::clone(&block),
                at,
            }));
        }
        for (states, kept) in self.states.iter_mut().zip(&filled.store.layers) {
            if let Some(state) = kept.state() {
                let new = state.select(&filled.ends)?;
                *states = Some(match states.take() {
                    Some(old) => old.join(&new)?,
                    None => new,
                });
            }
        }
        self.readers.add(&filled.joining, places);
        self.sort_blocks()
    }

    fn remove_rows(&mut self, gone: &[usize]) -> Result<()> {
        let left = self.readers.remove(gone);
        self.cache.keep_rows(&left)?;
        let order = upload(&left.order, self.runner.decoder.device())?;
        for state in self.states.iter_mut().flatten() {
            *state = state.select(&order)?;
        }
        self.sort_blocks()
    }

    fn step(&mut self, ids: &[i64]) -> Result<Tensor> {
        let decoder = &self.runner.decoder;
        let config = decoder.config();
        let positions: Vec<usize> = self.readers.rows.iter().map(Reader::position).collect();
        let furthest = positions.iter().max().copied().unwrap_or(0);
        let positions = upload(&positions, decoder.device())?;
        let ids = Tensor::f_from_slice(ids)?.f_to_device(decoder.device())?;
        let rotations = (self.rotations).map(|table| Ok(table.f_index_select(0, &positions)?))?;
        (self.cache).step(self.readers.rows.iter().map(|row| row.own));
        self.readers.step();
        let mut x_bh = decoder.embed(&ids)?;
        let (b, _) = x_bh.size2()?;
        // Query heads that share a kv head stand one behind the other.
        let heads = [
            b,
            config.num_key_value_heads as i64,
            -1,
            config.head_dim as i64,
        ];
        for i in 0..decoder.n_layers() {
            let (mixer, input) = self.runner.mixer(i, &x_bh)?;
            let mut gate = None;
            let y = match mixer {
                Mixer::Attention(attention) => {
                    let new = self.runner.heads(attention, &input, &rotations)?;
                    gate = new.gate;
                    let q = new.q.f_reshape(heads)?;
                    let (k, v, mask) = self.cache.append(i, &new.k, &new.v)?;
                    let window = attention.spec.window.filter(|&window| window <= furthest);
                    let first = window
                        .map(|window| positions.f_add_scalar(1 - window as i64))
                        .transpose()?;
                    let mut attended = Partial::new(&q, &k, &v, mask.as_ref())?;
                    for readers in &self.blocks {
                        readers.attend(i, &q, first.as_ref(), &mut attended)?;
                    }
                    attended.out.f_to_kind(decoder.kind())?.f_reshape([b, -1])?
                }
                Mixer::DeltaNet(net) => {
                    let before = self.states[i].as_ref();
                    let (y, after) = net.mix(&input.f_unsqueeze(1)?, before, None)?;
                    self.states[i] = Some(after);
                    y.f_squeeze_dim(1)?
                }
            };
            self.runner.finish(i, &mut x_bh, &y, gate.as_ref())?;
        }
        decoder.final_norm(&x_bh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::host::rows::HostRows;
    use crate::generate::prefill::prefill;
    use crate::model::config::{DecoderConfig, LayerSpec};
    use crate::model::init::init_parameters;
    use g2rpo_rollout::{Request, RolloutKey};
    use tch::Device;

    /// Two rows of at most 40 positions behind one prompt of 100, in a layer that sees all and in one that
    /// sees 8 positions: of the own ones it keeps 8, of the prompt 7.
    #[test]
    fn layers_with_a_window_keep_what_it_reaches() {
        let mut config = DecoderConfig::tiny_qwen3(50, 16, 2, 2, 1);
        config.layers = vec![LayerSpec {
            window: Some(8),
            ..LayerSpec::default()
        }];
        let parameters = init_parameters(&config, 5, Kind::Float, Device::Cpu).unwrap();
        let runner = Runner::new(&Decoder::new(&config, &parameters).unwrap());
        let _no_grad = tch::no_grad_guard();
        let request = Request {
            prompt: (0..100).map(|i| i % 50).collect(),
            guidance: Vec::new(),
            key: RolloutKey::default(),
            max_new_tokens: 41,
        };
        let filled = prefill(&runner, &[&request, &request]).unwrap();
        let host = HostRows::new(&runner, 2, 40, 141).unwrap().unwrap();
        let device = DeviceRows::new(&runner, 2, 40, 141).unwrap();
        let rows: [Box<dyn Decoding>; 2] = [Box::new(host), Box::new(device)];
        // Keys and values of 8 numbers in f32.
        let position = 2 * 8 * 4;
        let mut hidden = Vec::new();
        for mut rows in rows {
            rows.add_rows(&filled).unwrap();
            assert_eq!(rows.bytes(), (2 * 40 + 100 + 2 * 8 + 7) * position);
            let steps = (0..40).map(|i| rows.step(&[i, i + 1]).unwrap());
            hidden.push(Tensor::stack(&steps.collect::<Vec<_>>(), 0));
        }
        let off = f64::try_from((&hidden[0] - &hidden[1]).abs().max()).unwrap();
        assert!(off < 1e-5, "{off}");
    }
}
