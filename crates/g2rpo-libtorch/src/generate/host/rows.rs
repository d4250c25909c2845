//! The rows being generated in host memory.

use tch::Tensor;

use super::context::Context;
use super::own::Own;
use super::step::{Scratch, Step};
use super::threads::Threads;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::generate::decoding::Decoding;
use crate::generate::device::rotations;
use crate::generate::forward::Runner;
use crate::generate::prefill::Prefilled;
use crate::generate::readers::Readers;
use crate::generate::slice::f32_slice;
use crate::model::context::Rotations;

/// The rows being generated: what they attend to, and a decoding step for all of them.
#[derive(Debug)]
pub(in crate::generate) struct HostRows<'a> {
    weights: Weights<'a>,
    threads: Threads,
    /// Of all positions.
    rotations: Rotations<Vec<f32>>,
    positions: usize,
    /// Most own positions of a row.
    capacity: usize,
    own: Vec<Own>,
    readers: Readers<Context>,
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
        let rotations = rotations(&runner.decoder, positions)?;
        Ok(Some(Self {
            threads: Threads::new(usize::try_from(tch::get_num_threads()).unwrap_or(1))?,
            rotations: rotations.map(|table| Ok(f32_slice(table)?.to_vec()))?,
            positions,
            weights,
            capacity,
            own,
            readers: Readers::new(rows),
            scratch: Scratch::default(),
        }))
    }
}

impl Decoding for HostRows<'_> {
    fn bytes(&self) -> usize {
        let own = self
            .own
            .iter()
            .map(|own| own.first.len() + own.second.len());
        let shared = self.readers.contexts.iter().map(|c| c.kept.size());
        own.chain(shared).sum::<usize>() * size_of::<f32>()
    }

    fn add_rows(&mut self, filled: &Prefilled) -> Result<()> {
        let first = self.readers.rows.len();
        let contexts = filled.joining.contexts.iter();
        let kept = contexts.map(|(at, _)| Context::new(&filled.store, at));
        (self.readers).add(&filled.joining, kept.collect::<Result<_>>()?);
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
        Ok(())
    }

    fn remove_rows(&mut self, gone: &[usize]) -> Result<()> {
        for (from, to) in self.readers.remove(gone).moves() {
            self.own.iter_mut().for_each(|own| own.copy(from, to));
        }
        Ok(())
    }

    fn step(&mut self, ids: &[i64]) -> Result<Tensor> {
        let rows = &self.readers.rows;
        if let Some(row) = rows.iter().position(|row| row.own >= self.capacity) {
            let why = format!("row {row} has no room for position {}", self.capacity);
            return Err(Error::invalid("rows", why));
        }
        let h = self.weights.hidden;
        let mut hidden_bh = vec![0f32; ids.len() * h];
        let step = Step {
            weights: &self.weights,
            threads: &self.threads,
            rotations: &self.rotations,
            positions: self.positions,
            rows,
            contexts: &self.readers.contexts,
        };
        let (scratch, own) = (&mut self.scratch, &mut self.own);
        (self.threads).run(|| step.run(ids, scratch, own, &mut hidden_bh));
        self.readers.step();
        Ok(Tensor::f_from_slice(&hidden_bh)?.f_view([ids.len() as i64, h as i64])?)
    }
}
