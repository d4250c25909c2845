//! Decoding on any device, by libtorch's operations one by one.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::cache::{KvCache, bytes_of, state_bytes};
use super::decoding::Decoding;
use super::forward::Runner;
use super::prefill::Prefilled;
use super::shared::{Block, Partial, Readers};
use crate::error::Doing;
use crate::error::Result;
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
            cache_bytes: rows * bytes_of(decoder.config(), kind, capacity),
            states: (0..decoder.n_layers()).map(|_| None).collect(),
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
        let decoder = self.runner.decoder();
        let states = self.contexts.len() * state_bytes(decoder.config(), decoder.kind());
        let blocks: usize = self.readers.iter().map(|r| r.block.bytes()).sum();
        self.cache_bytes + states + blocks
    }

    fn add_rows(&mut self, filled: &Prefilled) -> Result<()> {
        let mut starts = vec![0; filled.guidance.len()];
        for &(prompt, guided) in &filled.places {
            if let Some(guided) = guided {
                starts[guided] = filled.prompts[prompt].len();
            }
        }
        let zeros = vec![0; filled.prompts.len()];
        let layers = self.runner.decoder().layers();
        let windows: Vec<_> = layers.iter().map(|layer| layer.mixer.window()).collect();
        let store = &filled.store;
        let prompts = Block::new(store, &filled.prompts, &zeros, &windows)?.map(Rc::new);
        let guidance = Block::new(store, &filled.guidance, &starts, &windows)?.map(Rc::new);
        for (states, kept) in self.states.iter_mut().zip(&store.layers) {
            if let Some(state) = kept.state() {
                let new = state.select(&filled.ends)?;
                *states = Some(match states.take() {
                    Some(old) => old.join(&new)?,
                    None => new,
                });
            }
        }
        for &(prompt, guided) in &filled.places {
            let prompt = prompts.clone().map(|block| (block, prompt));
            let guided = guidance.clone().zip(guided);
            self.contexts
                .push(prompt.into_iter().chain(guided).collect());
        }
        self.cache.add_rows(filled.places.len());
        self.sort_readers()
    }

    fn remove_rows(&mut self, gone: &[usize]) -> Result<()> {
        let mut order: Vec<usize> = (0..self.contexts.len()).collect();
        for &row in gone.iter().rev() {
            order.swap_remove(row);
            self.contexts.swap_remove(row);
        }
        self.cache.keep_rows(&order)?;
        let kept: Vec<i64> = order.iter().map(|&row| row as i64).collect();
        let kept = Tensor::f_from_slice(&kept)?.f_to_device(self.runner.decoder().device())?;
        for state in self.states.iter_mut().flatten() {
            *state = state.select(&kept)?;
        }
        self.sort_readers()
    }

    fn step(&mut self, ids: &[i64], positions: &[i64]) -> Result<Tensor> {
        let decoder = self.runner.decoder();
        let config = decoder.config();
        let upload = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(decoder.device())?)
        };
        let furthest = positions.iter().max().map_or(0, |&p| p as usize);
        let positions = upload(positions)?;
        let rotations = (self.rotations).map(|table| Ok(table.f_index_select(0, &positions)?))?;
        self.cache.step();
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
                    for readers in &self.readers {
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
            let steps = (0..40).map(|i| rows.step(&[i, i + 1], &[100 + i, 100 + i]).unwrap());
            hidden.push(Tensor::stack(&steps.collect::<Vec<_>>(), 0));
        }
        let off = f64::try_from((&hidden[0] - &hidden[1]).abs().max()).unwrap();
        assert!(off < 1e-5, "{off}");
    }
}
