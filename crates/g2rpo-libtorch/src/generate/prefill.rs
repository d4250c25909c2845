//! Computing contexts, each distinct prompt and guidance once.

use std::ops::Range;

use g2rpo_rollout::{Request, TokenId};
use tch::{Device, Kind, Tensor};

use super::forward::{Runner, attend};
use super::readers::{Joining, Sharing, context_reach, upload};
use crate::error::{Error, Result};
use crate::model::DeltaState;
use crate::model::decoder::Mixer;

/// Computed contexts of some requests.
#[derive(Debug)]
pub(super) struct Prefilled {
    /// Keys and values of every position that was computed.
    pub(super) store: Store,
    /// A row for each request, and contexts at positions of the store.
    pub(super) joining: Joining,
    /// The last context of every request, `[b]`: of which the states are its own.
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
    Keys(Keys),
    /// Of every prompt and then of every guidance, at its end.
    State(DeltaState),
}

/// Keys and values of attention, `[positions, kv_heads, head_dim]`.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) k: Tensor,
    pub(super) v: Tensor,
    pub(super) window: Option<usize>,
}

impl Keys {
    /// The end of a context that later positions may see.
    pub(super) fn needed(&self, context: &Range<usize>) -> Range<usize> {
        context.end - context_reach(context.len(), self.window)..context.end
    }
}

impl Kept {
    /// Keys and values of attention.
    pub(super) fn keys(&self) -> Option<&Keys> {
        match self {
            Self::Keys(keys) => Some(keys),
            Self::State(_) => None,
        }
    }

    /// States of a delta net.
    pub(super) fn state(&self) -> Option<&DeltaState> {
        match self {
            Self::Keys(_) => None,
            Self::State(state) => Some(state),
        }
    }
}

/// Computes the contexts of the requests (prompt, then guidance): each distinct prompt once, and
/// each distinct guidance behind a prompt once.
pub(super) fn prefill(runner: &Runner, requests: &[&Request]) -> Result<Prefilled> {
    let device = runner.decoder.device();
    let Sharing {
        prompts,
        guidance,
        reads,
    } = Sharing::of(requests.iter().copied());
    let roots = Padded::new(&prompts, device)?;
    let (mut hidden, mut store) = forward_prompts(runner, &roots)?;
    let mut contexts: Vec<(Range<usize>, usize)> =
        (0..prompts.len()).map(|i| (roots.range(i), 0)).collect();
    if !guidance.is_empty() {
        let (parents, texts): (Vec<usize>, Vec<&[TokenId]>) = guidance.into_iter().unzip();
        let tails = Padded::new(&texts, device)?;
        let more = forward_guidance(runner, &roots, &parents, &tails, &mut store)?;
        hidden = Tensor::f_cat(&[hidden, more], 0)?;
        let behind = prompts.len() * roots.width;
        for (i, &parent) in parents.iter().enumerate() {
            let at = tails.range(i);
            contexts.push((behind + at.start..behind + at.end, roots.lens[parent]));
        }
    }
    let last: Vec<usize> = (reads.iter().flat_map(|reads| reads.last()).copied()).collect();
    let ends = upload(&last, device)?;
    Ok(Prefilled {
        store,
        joining: Joining { contexts, reads },
        hidden_bh: runner
            .decoder
            .final_norm(&hidden.f_index_select(0, &ends)?)?,
        ends,
    })
}

/// Residual stream behind the last layer at the last position of every prompt, `[prompts, hidden]`,
/// and keys and values of all positions.
///
/// The last layer feeds nobody but these positions, so the others end at its keys and values.
fn forward_prompts(runner: &Runner, prompts: &Padded) -> Result<(Tensor, Store)> {
    let decoder = &runner.decoder;
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
                let (k, v) = (flat(&k)?, flat(&v)?);
                layers.push(Kept::Keys(Keys { k, v, window }));
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
    let decoder = &runner.decoder;
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
    let masked = |mask: &Vec<f32>| -> Result<Tensor> {
        Ok(Tensor::f_from_slice(mask)?
            .f_view([b as i64, 1, t as i64, s as i64])?
            .f_to_device(device)?
            .f_to_kind(kind)?)
    };
    let mask = masked(&mask)?;
    let window_mask = window_mask.as_ref().map(masked).transpose()?;

    let mut x_bth = decoder.embed(&guidance.ids_bt)?;
    let (b, _, h) = x_bth.size3()?;
    let ends = guidance.ends(device)?;
    let lens = guidance.lens_b(device)?;
    let parents = upload(parents, device)?;
    for (i, kept) in store.layers.iter_mut().enumerate() {
        let last = i + 1 == decoder.n_layers();
        let (mixer, input) = runner.mixer(i, &x_bth)?;
        let mut gate = None;
        let y = match (mixer, kept) {
            (Mixer::Attention(attention), Kept::Keys(store)) => {
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
                store.k = Tensor::f_cat(&[&store.k, &flat(&heads.k)?], 0)?;
                store.v = Tensor::f_cat(&[&store.v, &flat(&heads.v)?], 0)?;
                let gather = |store: &Tensor| -> Result<Tensor> {
                    let (_, heads, d) = store.size3()?;
                    let rows = store.f_index_select(0, &keys)?;
                    Ok(rows.f_view([b, s as i64, heads, d])?.f_transpose(1, 2)?)
                };
                let (k, v) = (gather(&store.k)?, gather(&store.v)?);
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
        upload(&self.lens, device)
    }

    /// Last position of every row in the flattened padded tensor.
    fn ends(&self, device: Device) -> Result<Tensor> {
        let ends = (0..self.lens.len()).map(|row| self.range(row).end - 1);
        upload(&ends.collect::<Vec<_>>(), device)
    }

    /// Positions of a row's ids in the flattened padded tensor.
    fn range(&self, row: usize) -> Range<usize> {
        let start = row * self.width;
        start..start + self.lens[row]
    }
}
