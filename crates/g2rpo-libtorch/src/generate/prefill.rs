//! Computing contexts, each distinct prompt and guidance once.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use g2rpo_rollout::{Request, TokenId};
use tch::{Device, Kind, Tensor};

use super::forward::{Runner, attend};
use crate::error::{Error, Result};
use crate::model::DeltaState;
use crate::model::decoder::Mixer;

/// Computed contexts of some requests.
#[derive(Debug)]
pub(super) struct Prefilled {
    /// Keys and values of every position that was computed.
    pub(super) store: Store,
    /// Positions of every distinct prompt in the store.
    pub(super) prompts: Vec<Range<usize>>,
    /// Positions of every distinct guidance behind a prompt in the store.
    pub(super) guidance: Vec<Range<usize>>,
    /// Per request its prompt and, if it is guided, its guidance.
    pub(super) places: Vec<(usize, Option<usize>)>,
    /// Per request the last of its contexts, counted through prompts and then guidance, `[b]`: of which the
    /// states are its own.
    pub(super) ends: Tensor,
    /// Hidden state behind the final norm at the last position of every request, `[b, h]`.
    pub(super) hidden_bh: Tensor,
}

/// What freshly computed positions leave behind.
#[derive(Debug)]
pub(super) struct Store {
    /// By layer.
    pub(super) layers: Vec<Kept>,
}

/// What positions leave behind in a layer.
#[derive(Debug)]
pub(super) enum Kept {
    /// Keys and values, `[positions, kv_heads, head_dim]`.
    Keys(Tensor, Tensor),
    /// Of every prompt and then of every guidance, at its end.
    State(DeltaState),
}

impl Kept {
    /// Keys and values of attention.
    pub(super) fn keys(&self) -> Option<(&Tensor, &Tensor)> {
        match self {
            Self::Keys(k, v) => Some((k, v)),
            Self::State(_) => None,
        }
    }

    /// States of a delta net.
    pub(super) fn state(&self) -> Option<&DeltaState> {
        match self {
            Self::Keys(..) => None,
            Self::State(state) => Some(state),
        }
    }
}

/// Computes the contexts of the requests (prompt, then guidance): each distinct prompt once, and
/// each distinct guidance behind a prompt once.
pub(super) fn prefill(runner: &Runner, requests: &[&Request]) -> Result<Prefilled> {
    let device = runner.decoder().device();
    let mut prompts = Distinct::default();
    let mut guided = Distinct::default();
    // Per request its prompt and, if it is guided, its pair of prompt and guidance.
    let places: Vec<(usize, Option<usize>)> = (requests.iter())
        .map(|request| {
            let prompt = prompts.place(&request.prompt[..]);
            let pair = (!request.guidance.is_empty())
                .then(|| guided.place((prompt, &request.guidance[..])));
            (prompt, pair)
        })
        .collect();

    let roots = Padded::new(&prompts.items, device)?;
    let (mut hidden, mut store) = forward_prompts(runner, &roots)?;
    let prompts: Vec<Range<usize>> = (0..roots.lens.len()).map(|i| roots.range(i)).collect();
    let guidance: Vec<Range<usize>> = match guided.items.is_empty() {
        true => Vec::new(),
        false => {
            let (parents, texts): (Vec<usize>, Vec<&[TokenId]>) =
                guided.items.iter().copied().unzip();
            let tails = Padded::new(&texts, device)?;
            let more = forward_guidance(runner, &roots, &parents, &tails, &mut store)?;
            hidden = Tensor::f_cat(&[hidden, more], 0)?;
            let behind = roots.lens.len() * roots.width;
            (0..texts.len())
                .map(|i| tails.range(i))
                .map(|range| behind + range.start..behind + range.end)
                .collect()
        }
    };
    let last: Vec<i64> = (places.iter())
        .map(|&(prompt, guided)| guided.map_or(prompt, |i| prompts.len() + i) as i64)
        .collect();
    let last = Tensor::f_from_slice(&last)?.f_to_device(device)?;
    Ok(Prefilled {
        store,
        prompts,
        guidance,
        places,
        hidden_bh: (runner.decoder()).final_norm(&hidden.f_index_select(0, &last)?)?,
        ends: last,
    })
}

/// Residual stream behind the last layer at the last position of every prompt, `[prompts, hidden]`,
/// and keys and values of all positions.
///
/// The last layer feeds nobody but these positions, so the others end at its keys and values.
fn forward_prompts(runner: &Runner, prompts: &Padded) -> Result<(Tensor, Store)> {
    let decoder = runner.decoder();
    let context = decoder.causal_context(prompts.width)?;
    let mut x_bth = decoder.embed(&prompts.ids_bt)?;
    let (b, _, h) = x_bth.size3()?;
    let ends = prompts.ends(decoder.device())?;
    let lens = prompts.lens_b(decoder.device())?;
    let mut layers = Vec::with_capacity(decoder.n_layers());
    for i in 0..decoder.n_layers() {
        let last = i + 1 == decoder.n_layers();
        let (mixer, input) = runner.mixer(i, &x_bth)?;
        let mut gate = None;
        let y = match mixer {
            Mixer::Attention(attention) => {
                let heads = runner.heads(attention, &input, &context.rotations)?;
                let (mut q, k, v) = (heads.q, heads.k, heads.v);
                gate = heads.gate;
                let window = attention.spec.window;
                let mut mask = match window {
                    Some(_) => (context.window_mask.as_ref()).map(Tensor::shallow_clone),
                    None => None,
                };
                if last {
                    q = pick(&q, &ends)?;
                    gate = gate.map(|gate| pick(&gate, &ends)).transpose()?;
                    mask = mask_of(&prompts.lens, prompts.width, window, decoder.device())?;
                }
                let causal = !last && mask.is_none();
                let mask = mask
                    .map(|mask| mask.f_to_kind(decoder.kind()))
                    .transpose()?;
                let [q, k_heads, v_heads] = [
                    q.f_transpose(1, 2)?,
                    k.f_transpose(1, 2)?,
                    v.f_transpose(1, 2)?,
                ];
                let y = attend(&q, &k_heads, &v_heads, mask.as_ref(), causal)?;
                layers.push(Kept::Keys(flat(&k)?, flat(&v)?));
                y.f_transpose(1, 2)?.f_flatten(2, 3)?
            }
            Mixer::DeltaNet(net) => {
                let (y, state) = net.mix(&input, None, Some(&lens))?;
                layers.push(Kept::State(state));
                match last {
                    true => pick(&y, &ends)?,
                    false => y,
                }
            }
        };
        if last {
            x_bth = pick(&x_bth, &ends)?;
        }
        runner.finish(i, &mut x_bth, &y, gate.as_ref())?;
    }
    Ok((x_bth.f_view([b, h])?, Store { layers }))
}

/// The same for guidance that continues the given prompts, whose keys and values are in the
/// store; the new ones are put behind them.
fn forward_guidance(
    runner: &Runner,
    prompts: &Padded,
    parents: &[usize],
    guidance: &Padded,
    store: &mut Store,
) -> Result<Tensor> {
    let decoder = runner.decoder();
    let (device, kind) = (decoder.device(), decoder.kind());
    let (b, t) = (parents.len(), guidance.width);
    let s = prompts.width + t;
    let mut positions = Vec::with_capacity(b * t);
    // Keys stand without a gap: those of the prompt, those of the guidance, then padding.
    let mut keys = vec![0i64; b * s];
    let window = decoder.window();
    let mut mask = vec![f32::NEG_INFINITY; b * t * s];
    let mut window_mask = window.map(|_| mask.clone());
    let n_prompt_positions = prompts.lens.len() * prompts.width;
    for (row, &parent) in parents.iter().enumerate() {
        let start = prompts.lens[parent];
        positions.extend((start..start + t).map(|p| p as i64));
        let own = guidance.range(row).map(|p| n_prompt_positions + p);
        for (key, at) in (keys[row * s..].iter_mut()).zip(prompts.range(parent).chain(own)) {
            *key = at as i64;
        }
        for i in 0..t {
            let sees = (start + i + 1).min(start + guidance.lens[row]);
            mask[(row * t + i) * s..][..sees].fill(0.0);
            if let (Some(window), Some(mask)) = (window, &mut window_mask) {
                // What is behind the end sees something as well, or it would become NaN.
                let first = (start + i + 1).saturating_sub(window).min(sees - 1);
                mask[(row * t + i) * s..][first..sees].fill(0.0);
            }
        }
    }
    let positions = Tensor::f_from_slice(&positions)?
        .f_view([b as i64, t as i64])?
        .f_to_device(device)?;
    let rotations = decoder.rotations(&positions)?;
    let keys = Tensor::f_from_slice(&keys)?.f_to_device(device)?;
    let upload = |mask: &Vec<f32>| -> Result<Tensor> {
        Ok(Tensor::f_from_slice(mask)?
            .f_view([b as i64, 1, t as i64, s as i64])?
            .f_to_device(device)?
            .f_to_kind(kind)?)
    };
    let mask = upload(&mask)?;
    let window_mask = window_mask.as_ref().map(upload).transpose()?;

    let mut x_bth = decoder.embed(&guidance.ids_bt)?;
    let (b, _, h) = x_bth.size3()?;
    let ends = guidance.ends(device)?;
    let lens = guidance.lens_b(device)?;
    let parents: Vec<i64> = parents.iter().map(|&parent| parent as i64).collect();
    let parents = Tensor::f_from_slice(&parents)?.f_to_device(device)?;
    for (i, kept) in store.layers.iter_mut().enumerate() {
        let last = i + 1 == decoder.n_layers();
        let (mixer, input) = runner.mixer(i, &x_bth)?;
        let mut gate = None;
        let y = match (mixer, kept) {
            (Mixer::Attention(attention), Kept::Keys(k_store, v_store)) => {
                let heads = runner.heads(attention, &input, &rotations)?;
                let mut q = heads.q;
                gate = heads.gate;
                let windowed = attention.spec.window.is_some();
                let mask = window_mask.as_ref().filter(|_| windowed).unwrap_or(&mask);
                let mut mask = mask.shallow_clone();
                if last {
                    q = pick(&q, &ends)?;
                    gate = gate.map(|gate| pick(&gate, &ends)).transpose()?;
                    mask = pick(&mask.f_transpose(1, 2)?, &ends)?.f_transpose(1, 2)?;
                }
                *k_store = Tensor::f_cat(&[&*k_store, &flat(&heads.k)?], 0)?;
                *v_store = Tensor::f_cat(&[&*v_store, &flat(&heads.v)?], 0)?;
                let gather = |store: &Tensor| -> Result<Tensor> {
                    let (_, heads, d) = store.size3()?;
                    let rows = store.f_index_select(0, &keys)?;
                    Ok(rows.f_view([b, s as i64, heads, d])?.f_transpose(1, 2)?)
                };
                let (k, v) = (gather(k_store)?, gather(v_store)?);
                let y = attend(&q.f_transpose(1, 2)?, &k, &v, Some(&mask), false)?;
                y.f_transpose(1, 2)?.f_flatten(2, 3)?
            }
            (Mixer::DeltaNet(net), Kept::State(state)) => {
                let before = state.select(&parents)?;
                let (y, after) = net.mix(&input, Some(&before), Some(&lens))?;
                *state = state.join(&after)?;
                match last {
                    true => pick(&y, &ends)?,
                    false => y,
                }
            }
            _ => return Err(Error::invalid("layer", format!("{i} has changed its kind"))),
        };
        if last {
            x_bth = pick(&x_bth, &ends)?;
        }
        runner.finish(i, &mut x_bth, &y, gate.as_ref())?;
    }
    Ok(x_bth.f_view([b, h])?)
}

/// 0 for the first `len` of `width` positions, or the last `window` of these, and -inf elsewhere,
/// `[lens, 1, 1, width]`; `None` if all may be seen.
pub(super) fn mask_of(
    lens: &[usize],
    width: usize,
    window: Option<usize>,
    device: Device,
) -> Result<Option<Tensor>> {
    let window = window.unwrap_or(width);
    if window >= width && lens.iter().all(|&len| len == width) {
        return Ok(None);
    }
    let values: Vec<f32> = (lens.iter())
        .flat_map(|&len| {
            let sees = move |i: usize| i < len && i + window >= len;
            (0..width).map(move |i| if sees(i) { 0.0 } else { f32::NEG_INFINITY })
        })
        .collect();
    let mask = Tensor::f_from_slice(&values)?
        .f_view([lens.len() as i64, 1, 1, width as i64])?
        .f_to_kind(Kind::Float)?;
    Ok(Some(mask.f_to_device(device)?))
}

/// `[B, T, ..]` at one position per row, given as places in `B · T`: `[B, 1, ..]`.
fn pick(x: &Tensor, places_b: &Tensor) -> Result<Tensor> {
    let rows = x.f_flatten(0, 1)?.f_index_select(0, places_b)?;
    Ok(rows.f_unsqueeze(1)?)
}

/// `[B, T, heads, head_dim]` to `[B · T, heads, head_dim]`.
fn flat(x: &Tensor) -> Result<Tensor> {
    let (b, t, heads, d) = x.size4()?;
    Ok(x.f_reshape([b * t, heads, d])?)
}

/// Items in the order in which they first came.
struct Distinct<T> {
    items: Vec<T>,
    index: HashMap<T, usize>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            index: HashMap::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    fn place(&mut self, item: T) -> usize {
        *self.index.entry(item).or_insert_with(|| {
            self.items.push(item);
            self.items.len() - 1
        })
    }
}

/// Rows of ids padded on the right.
struct Padded {
    ids_bt: Tensor,
    lens: Vec<usize>,
    width: usize,
}

impl Padded {
    fn new(rows: &[&[TokenId]], device: Device) -> Result<Self> {
        let lens: Vec<usize> = rows.iter().map(|r| r.len()).collect();
        let width = lens.iter().max().copied().unwrap_or(0);
        let mut ids = vec![0i64; rows.len() * width];
        for (padded, row) in ids.chunks_exact_mut(width.max(1)).zip(rows) {
            for (to, &from) in padded.iter_mut().zip(*row) {
                *to = i64::from(from);
            }
        }
        let ids_bt = Tensor::f_from_slice(&ids)?
            .f_view([rows.len() as i64, width as i64])?
            .f_to_kind(Kind::Int64)?
            .f_to_device(device)?;
        Ok(Self {
            ids_bt,
            lens,
            width,
        })
    }

    /// Lengths of the rows, `[B]`.
    fn lens_b(&self, device: Device) -> Result<Tensor> {
        let lens: Vec<i64> = self.lens.iter().map(|&len| len as i64).collect();
        Ok(Tensor::f_from_slice(&lens)?.f_to_device(device)?)
    }

    /// Last position of every row in the flattened padded tensor.
    fn ends(&self, device: Device) -> Result<Tensor> {
        let ends: Vec<i64> = (0..self.lens.len())
            .map(|row| self.range(row).end as i64 - 1)
            .collect();
        Ok(Tensor::f_from_slice(&ends)?.f_to_device(device)?)
    }

    /// Positions of a row's ids in the flattened padded tensor.
    fn range(&self, row: usize) -> Range<usize> {
        let start = row * self.width;
        start..start + self.lens[row]
    }
}
