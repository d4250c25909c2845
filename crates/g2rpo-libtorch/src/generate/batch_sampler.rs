//! From hidden states to drawn ids.

use g2rpo_rollout::SamplingParams;
use tch::{Device, Kind, Tensor};

use super::device_sampler::DeviceSampler;
use super::host_sampler::HostSampler;
use super::sampler::{Draw, Row};
use crate::error::Result;

/// From hidden states to drawn ids, for all rows at once.
#[derive(Debug)]
pub(super) enum BatchSampler<'a> {
    /// f32 in host memory.
    Host(HostSampler<'a>),
    /// Any other device or number format.
    Device(DeviceSampler<'a>),
}

impl<'a> BatchSampler<'a> {
    /// A sampler for at most `max_rows` rows and a vocabulary projection `[vocab, hidden]`.
    pub(super) fn new(
        params: &'a SamplingParams,
        max_rows: usize,
        lm_head_vh: &'a Tensor,
    ) -> Result<Self> {
        match (lm_head_vh.device(), lm_head_vh.kind()) {
            (Device::Cpu, Kind::Float) => {
                Ok(Self::Host(HostSampler::new(params, max_rows, lm_head_vh)?))
            }
            _ => Ok(Self::Device(DeviceSampler::new(
                params, max_rows, lm_head_vh,
            )?)),
        }
    }

    /// One draw per row of `hidden_bh`; rows that are `None` draw nothing. A row's draw is `None`
    /// as well if its logits are not finite.
    pub(super) fn draw(
        &mut self,
        hidden_bh: &Tensor,
        rows: &[Option<Row<'_>>],
    ) -> Result<Vec<Option<Draw>>> {
        match self {
            Self::Host(sampler) => sampler.draw(hidden_bh, rows),
            Self::Device(sampler) => sampler.draw(hidden_bh, rows),
        }
    }
}
