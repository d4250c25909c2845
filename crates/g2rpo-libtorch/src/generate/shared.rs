//! Contexts that several rows read, by libtorch's operations.

use std::ops::Range;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::partial::Partial;
use super::prefill::{Keys, Store, mask_of};
use super::readers::{Shared, upload};
use crate::error::Result;

/// Keys and values of contexts that were computed together, each of which several rows may read.
#[derive(Debug)]
pub(super) struct Block {
    /// By layer; `None` where there are no keys and values.
    layers: Vec<Option<BlockLayer>>,
    contexts: usize,
}

/// What a layer keeps of the contexts: all of it, or what a window of a later position may reach.
#[derive(Debug)]
struct BlockLayer {
    /// `[contexts, kv_heads, width, head_dim]`.
    k: Tensor,
    v: Tensor,
    lens: Vec<usize>,
    /// Where what is kept starts in the sequences of its readers.
    starts: Vec<usize>,
    /// 0 where a context is, -inf behind its end, `[contexts, 1, 1, width]`; absent when all are
    /// of one length.
    mask: Option<Tensor>,
}

/// What a block keeps of a context.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) block: Rc<Block>,
    pub(super) at: usize,
}

/// A block and, in tensors, who reads it.
#[derive(Debug)]
pub(super) struct BlockReaders {
    pub(super) block: Rc<Block>,
    /// Row of every place, `[contexts · places]`; places that are free hold any row.
    gather: Tensor,
    places: i64,
    /// The rows that read, and the place of each.
    rows: Tensor,
    scatter: Tensor,
}

impl Block {
    /// Copies contexts, given as positions of the store and where each starts in the sequences of its readers.
    pub(super) fn new(store: &Store, contexts: &[(Range<usize>, usize)]) -> Result<Self> {
        let layers = (store.layers.iter())
            .map(|kept| {
                let keys = kept.keys();
                keys.map(|keys| BlockLayer::new(keys, contexts)).transpose()
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            layers,
            contexts: contexts.len(),
        })
    }

    /// A block of some of its contexts.
    pub(super) fn select(&self, contexts: &[usize]) -> Result<Self> {
        let layers = (self.layers.iter())
            .map(|layer| layer.as_ref().map(|l| l.select(contexts)).transpose())
            .collect::<Result<_>>()?;
        Ok(Self {
            layers,
            contexts: contexts.len(),
        })
    }

    /// Number of contexts.
    pub(super) fn len(&self) -> usize {
        self.contexts
    }

    /// Bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |t: &Tensor| t.numel() * t.kind().elt_size_in_bytes();
        let layers = self.layers.iter().flatten();
        layers.map(|layer| bytes(&layer.k) + bytes(&layer.v)).sum()
    }

    fn device(&self) -> Device {
        let first = self.layers.iter().flatten().next();
        first.map_or(Device::Cpu, |layer| layer.k.device())
    }
}

impl BlockLayer {
    fn new(keys: &Keys, contexts: &[(Range<usize>, usize)]) -> Result<Self> {
        let (k, v) = (&keys.k, &keys.v);
        let kept: Vec<Range<usize>> = (contexts.iter().map(|(at, _)| keys.needed(at))).collect();
        let lens: Vec<usize> = kept.iter().map(Range::len).collect();
        let (n, width) = (lens.len(), lens.iter().max().copied().unwrap_or(0));
        let index: Vec<usize> = (kept.iter())
            // What stands behind a context's end is masked, so any position may.
            .flat_map(|c| (0..width).map(|i| if i < c.len() { c.start + i } else { 0 }))
            .collect();
        let index = upload(&index, k.device())?;
        let copy = |store: &Tensor| -> Result<Tensor> {
            let (_, heads, d) = store.size3()?;
            Ok((store.f_index_select(0, &index)?)
                .f_view([n as i64, width as i64, heads, d])?
                .f_transpose(1, 2)?
                .f_contiguous()?)
        };
        Ok(Self {
            k: copy(k)?,
            v: copy(v)?,
            mask: mask_of(&lens, width, None, k.device())?,
            lens,
            starts: (contexts.iter().zip(&kept))
                .map(|((at, start), kept)| start + kept.start - at.start)
                .collect(),
        })
    }

    fn select(&self, contexts: &[usize]) -> Result<Self> {
        let lens: Vec<usize> = contexts.iter().map(|&i| self.lens[i]).collect();
        let width = lens.iter().max().copied().unwrap_or(0);
        let device = self.k.device();
        let ids = upload(contexts, device)?;
        let copy = |t: &Tensor| t.f_index_select(0, &ids)?.f_narrow(2, 0, width as i64);
        Ok(Self {
            k: copy(&self.k)?,
            v: copy(&self.v)?,
            mask: mask_of(&lens, width, None, device)?,
            lens,
            starts: contexts.iter().map(|&i| self.starts[i]).collect(),
        })
    }
}

impl BlockReaders {
    /// Of contexts of one block, which need not be all of it.
    pub(super) fn new(block: Rc<Block>, contexts: &[Shared<Place>]) -> Result<Self> {
        let mut by_context: Vec<&[usize]> = vec![&[]; block.len()];
        for context in contexts {
            by_context[context.kept.at] = &context.rows;
        }
        let places = by_context.iter().map(|rows| rows.len()).max().unwrap_or(0);
        let (mut gather, mut scatter, mut order) = (Vec::new(), Vec::new(), Vec::new());
        for rows in &by_context {
            for place in 0..places {
                if let Some(&row) = rows.get(place) {
                    order.push(row);
                    scatter.push(gather.len());
                }
                gather.push(rows.get(place).map_or(0, |&row| row));
            }
        }
        let device = block.device();
        Ok(Self {
            gather: upload(&gather, device)?,
            places: places as i64,
            rows: upload(&order, device)?,
            scatter: upload(&scatter, device)?,
            block,
        })
    }

    /// Adds attention to the block's contexts in layer `i` to that of the rows that read it.
    /// Queries `[b, kv_heads, queries, head_dim]`; `first_b`, for a layer with a window, is the first
    /// position that each row sees.
    pub(super) fn attend(
        &self,
        i: usize,
        queries: &Tensor,
        first_b: Option<&Tensor>,
        partial: &mut Partial,
    ) -> Result<()> {
        let (_, kv_heads, t, d) = queries.size4()?;
        let (n, m) = (self.block.len() as i64, self.places);
        let layer = match &self.block.layers[i] {
            // A window of one position reaches no context.
            Some(layer) if layer.k.numel() > 0 => layer,
            _ => return Ok(()),
        };
        let together = (queries.f_index_select(0, &self.gather)?)
            .f_view([n, m, kv_heads, t, d])?
            .f_transpose(1, 2)?
            .f_reshape([n, kv_heads, m * t, d])?;
        let mask = match first_b {
            Some(first_b) => Some(self.window_mask(layer, first_b, t)?),
            None => layer.mask.as_ref().map(Tensor::shallow_clone),
        };
        let all = Partial::new(&together, &layer.k, &layer.v, mask.as_ref())?;
        let apart = |x: &Tensor| -> Result<Tensor> {
            Ok((x.f_view([n, kv_heads, m, t, -1])?)
                .f_transpose(1, 2)?
                .f_reshape([n * m, kv_heads, t, -1])?
                .f_index_select(0, &self.scatter)?)
        };
        let mine = Partial {
            out: apart(&all.out)?,
            log_sum: apart(&all.log_sum)?,
        };
        let before = Partial {
            out: partial.out.f_index_select(0, &self.rows)?,
            log_sum: partial.log_sum.f_index_select(0, &self.rows)?,
        };
        let merged = before.merge(&mine)?;
        let _ = partial.out.f_index_copy_(0, &self.rows, &merged.out)?;
        let _ = (partial.log_sum).f_index_copy_(0, &self.rows, &merged.log_sum)?;
        Ok(())
    }

    /// The block's mask for every place's queries, `[contexts, 1, places · queries, width]`.
    ///
    /// What lies before the window gets a large negative number and not -inf: a row that sees nothing
    /// of a context then has a softmax there, whose weight in the sum with other parts is 0.
    fn window_mask(&self, layer: &BlockLayer, first_b: &Tensor, queries: i64) -> Result<Tensor> {
        let (n, m, device) = (self.block.len() as i64, self.places, first_b.device());
        let width = layer.lens.iter().max().copied().unwrap_or(0) as i64;
        let starts = upload(&layer.starts, device)?;
        let positions = (starts.f_view([n, 1, 1, 1])?)
            .f_add(&Tensor::f_arange(width, (Kind::Int64, device))?)?;
        let first = (first_b.f_index_select(0, &self.gather)?)
            .f_view([n, 1, m, 1])?
            .f_repeat_interleave_self_int(queries, 2, None)?;
        let before = positions.f_lt_tensor(&first)?;
        let mask = Tensor::f_zeros([n, 1, m * queries, width], (Kind::Float, device))?
            .f_masked_fill(&before, -1e30)?;
        Ok(match &layer.mask {
            Some(block) => mask.f_add(block)?,
            None => mask,
        })
    }
}
