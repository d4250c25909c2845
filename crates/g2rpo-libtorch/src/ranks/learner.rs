//! What a learner of which every rank has a copy does to keep the copies equal.

use g2rpo_rollout::ranks::{Collective, DataParallel, RankError, RankedError, Values};
use tch::{Device, Kind, Tensor};

use super::group::ProcessGroup;
use crate::error::{Doing, Error, Result};
use crate::learner::torch_learner::TorchLearner;

const WHAT: &str = "the sum of gradients";

/// Numbers that go through host memory at once: 64 MiB in single precision.
const AT_ONCE: i64 = 1 << 24;

impl DataParallel for TorchLearner {
    fn sum_gradient(
        &mut self,
        ranks: &dyn Collective,
    ) -> std::result::Result<(), RankedError<Error>> {
        let gradient = self.gradient();
        let group = ranks.as_any().and_then(|any| any.downcast_ref());
        if let Some(group) = group
            && sums_there(group, gradient)
        {
            return Ok(group.sum_there(WHAT, gradient)?);
        }
        for part in parts(gradient).map_err(RankedError::Own)? {
            sum(&part, ranks).map_err(RankedError::Own)??;
        }
        Ok(())
    }

    /// Of the model's parameters, and of the adapters', if they are what is trained.
    fn fingerprint(&self) -> Result<u64> {
        let adapter = self.adapter().map(|_| self.updated().flat());
        let mut hash = 0;
        for flat in [Some(self.base().flat()), adapter].into_iter().flatten() {
            for part in parts(flat)? {
                let values: Vec<f64> = on_host(&part, Kind::Double)?;
                // Multiplying and rotating (FxHash) sees every bit of every number, and their order.
                hash = values.iter().fold(hash, |hash: u64, value| {
                    (hash.rotate_left(5) ^ value.to_bits()).wrapping_mul(0x517c_c1b7_2722_0a95)
                });
            }
        }
        Ok(hash)
    }
}

/// Whether the group sums a gradient where it is, to the precision of the way through host memory.
fn sums_there(group: &ProcessGroup, gradient: &Tensor) -> bool {
    group.sums_on(gradient.device()) && matches!(gradient.kind(), Kind::Float | Kind::Double)
}

/// A flat buffer, piece by piece; the pieces share its memory.
fn parts(flat: &Tensor) -> Result<Vec<Tensor>> {
    let n = flat.numel() as i64;
    let part = |start: i64| flat.f_narrow(0, start, AT_ONCE.min(n - start));
    (0..n)
        .step_by(AT_ONCE as usize)
        .map(|start| part(start).doing(|| "reading a flat buffer".into()))
        .collect()
}

/// The numbers of a piece.
fn on_host<T: tch::kind::Element + Default + Clone>(part: &Tensor, kind: Kind) -> Result<Vec<T>> {
    let host = tch::no_grad(|| part.f_to_device(Device::Cpu)?.f_to_kind(kind));
    let host = host.doing(|| "copying a flat buffer to the host".into())?;
    let mut values = vec![T::default(); host.numel()];
    (host.f_copy_data(&mut values, host.numel()))
        .doing(|| "copying a flat buffer to the host".into())?;
    Ok(values)
}

/// Sums a piece of a gradient in place.
fn sum(part: &Tensor, ranks: &dyn Collective) -> Result<std::result::Result<(), RankError>> {
    let (done, summed) = if part.kind() == Kind::Double {
        let mut values: Vec<f64> = on_host(part, Kind::Double)?;
        let done = ranks.sum(WHAT, Values::F64(&mut values));
        (done, Tensor::f_from_slice(&values))
    } else {
        let mut values: Vec<f32> = on_host(part, Kind::Float)?;
        let done = ranks.sum(WHAT, Values::F32(&mut values));
        (done, Tensor::f_from_slice(&values))
    };
    let summed = summed.doing(|| "taking over a sum".into())?;
    tch::no_grad(|| part.shallow_clone().f_copy_(&summed)).doing(|| "taking over a sum".into())?;
    Ok(done)
}
