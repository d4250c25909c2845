//! The rows being generated in host memory.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::context::{Context, Readers};
use super::own::Own;
use super::step::{Scratch, Step, Table, Tables};
use super::threads::Threads;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::generate::decoding::Decoding;
use crate::generate::forward::Runner;
use crate::generate::prefill::Prefilled;
use crate::generate::slice::f32_slice;

/// The rows being generated: what they attend to, and a decoding step for all of them.
#[derive(Debug)]
pub(in crate::generate) struct HostRows<'a> {
    weights: Weights<'a>,
    threads: Threads,
    /// Of all positions.
    rotations: Tables,
    /// Most own positions of a row.
    capacity: usize,
    own: Vec<Own>,
    /// Own positions of every row in use.
    lens: Vec<usize>,
    /// What every row reads besides, in the order of positions.
    contexts: Vec<Vec<Arc<Context>>>,
    /// The same by context.
    readers: Vec<Readers>,
    /// Per row its places in `readers`: which, and the how-manieth.
    places: Vec<Vec<(usize, usize)>>,
    scratch: Scratch,
}

impl<'a> HostRows<'a> {
    /// Room for `rows` rows of `capacity` own positions behind contexts, all below `positions`.
    /// `None` for a decoder that is not f32 in host memory.
    pub(in crate::generate) fn new(
        runner: &'a Runner,
        rows: usize,
        capacity: usize,
        positions: usize,
    ) -> Result<Option<Self>> {
        let Some(weights) = Weights::new(runner)? else {
            return Ok(None);
        };
        let width = weights.kv_heads * weights.head_dim;
        let own = (weights.layers.iter())
            .map(|layer| Own::new(&layer.mixer, width, rows, capacity))
            .collect::<Result<_>>()?;
        let decoder = runner.decoder();
        let positions = Tensor::f_arange(positions as i64, (Kind::Int64, decoder.device()))?;
        let rotations = decoder.rotations(&positions)?;
        let table = |(cos, sin): &(Tensor, Tensor)| -> Result<Table> {
            Ok(Table {
                cos: f32_slice(cos)?.to_vec(),
                sin: f32_slice(sin)?.to_vec(),
                width: cos.size().last().map_or(0, |&n| n as usize),
            })
        };
        let factors = rotations.query_factor.as_ref().map(f32_slice).transpose()?;
        Ok(Some(Self {
            threads: Threads::new(usize::try_from(tch::get_num_threads()).unwrap_or(1))?,
            rotations: Tables {
                main: table(&rotations.main)?,
                local: rotations.local.as_ref().map(table).transpose()?,
                query_factors: factors.map(<[f32]>::to_vec),
            },
            weights,
            capacity,
            own,
            lens: Vec::with_capacity(rows),
            contexts: Vec::with_capacity(rows),
            readers: Vec::new(),
            places: Vec::new(),
            scratch: Scratch::default(),
        }))
    }

    /// Finds out anew who reads what.
    fn sort_readers(&mut self) {
        self.readers.clear();
        self.places.clear();
        for (row, contexts) in self.contexts.iter().enumerate() {
            let mut places = Vec::with_capacity(contexts.len());
            for context in contexts {
                let known = (self.readers.iter()).rposition(|r| Arc::ptr_eq(&r.context, context));
                let which = known.unwrap_or_else(|| {
                    self.readers.push(Readers {
                        context: Arc::clone(context),
                        rows: Vec::new(),
                    });
                    self.readers.len() - 1
                });
                places.push((which, self.readers[which].rows.len()));
                self.readers[which].rows.push(row);
            }
            self.places.push(places);
        }
    }
}

impl Decoding for HostRows<'_> {
    fn bytes(&self) -> usize {
        let own = self
            .own
            .iter()
            .map(|own| own.first.len() + own.second.len());
        let shared = self.readers.iter().map(|r| r.context.size());
        own.chain(shared).sum::<usize>() * size_of::<f32>()
    }

    fn add_rows(&mut self, filled: &Prefilled) -> Result<()> {
        let layers = &self.weights.layers;
        let windows: Vec<_> = layers.iter().map(|layer| layer.mixer.window()).collect();
        let read = |range: &std::ops::Range<usize>| -> Result<Arc<Context>> {
            Ok(Arc::new(Context::new(
                &filled.store,
                range.clone(),
                &windows,
            )?))
        };
        let prompts = (filled.prompts.iter().map(read)).collect::<Result<Vec<_>>>()?;
        let guidance = (filled.guidance.iter().map(read)).collect::<Result<Vec<_>>>()?;
        for &(prompt, guided) in &filled.places {
            let guided = guided.map(|i| Arc::clone(&guidance[i]));
            let prompt = Arc::clone(&prompts[prompt]);
            self.contexts
                .push([prompt].into_iter().chain(guided).collect());
            self.lens.push(0);
        }
        let first = self.lens.len() - filled.places.len();
        for (own, kept) in self.own.iter_mut().zip(&filled.store.layers) {
            let Some(state) = kept.state() else { continue };
            let state = state.select(&filled.ends)?;
            for (to, from, n) in [
                (&mut own.first, &state.recent, own.sizes.0),
                (&mut own.second, &state.memory, own.sizes.1),
            ] {
                let from = from.f_contiguous()?;
                to[first * n..][..from.numel()].copy_from_slice(f32_slice(&from)?);
            }
        }
        self.sort_readers();
        Ok(())
    }

    fn remove_rows(&mut self, gone: &[usize]) -> Result<()> {
        // From behind, so that the last row is never one that goes as well.
        for &row in gone.iter().rev() {
            let last = self.lens.len() - 1;
            if row != last {
                self.own.iter_mut().for_each(|own| own.copy(last, row));
            }
            self.lens.swap_remove(row);
            self.contexts.swap_remove(row);
        }
        self.sort_readers();
        Ok(())
    }

    fn step(&mut self, ids: &[i64], positions: &[i64]) -> Result<Tensor> {
        if let Some(row) = self.lens.iter().position(|&len| len >= self.capacity) {
            return Err(Error::invalid(
                "rows",
                format!("row {row} has no room for position {}", self.capacity),
            ));
        }
        let h = self.weights.hidden;
        let mut hidden_bh = vec![0f32; ids.len() * h];
        let step = Step {
            weights: &self.weights,
            threads: &self.threads,
            rotations: &self.rotations,
            lens: &self.lens,
            readers: &self.readers,
            places: &self.places,
            positions,
        };
        let (scratch, own) = (&mut self.scratch, &mut self.own);
        (self.threads).run(|| step.run(ids, scratch, own, &mut hidden_bh));
        self.lens.iter_mut().for_each(|len| *len += 1);
        Ok(Tensor::f_from_slice(&hidden_bh)?.f_view([ids.len() as i64, h as i64])?)
    }
}
