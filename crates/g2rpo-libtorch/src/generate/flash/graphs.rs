//! Recorded steps, by their shapes.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::shape::Shape;
use crate::error::{Error, Result};
use crate::generate::cuda::graph::CudaGraph;

/// Recorded steps by shape.
#[derive(Debug, Default)]
pub(super) struct Graphs {
    /// How many steps had a shape, and the record.
    table: HashMap<Shape, (u32, Option<CudaGraph>)>,
}

/// Steps of a shape before it is recorded. To record takes about as long as two steps, and the shapes
/// that come up while rows leave serve but a few.
const STEPS_BEFORE_RECORD: u32 = 3;

/// How far a replayed step may be from the step itself, relative to its largest number: products of
/// bf16 in another order of sums.
const TOLERANCE: f64 = 0.02;

impl Graphs {
    /// Forgets everything recorded, which must happen before memory that it uses is given up.
    pub(super) fn clear(&mut self) {
        self.table.clear();
    }

    /// Computes a step of this shape, which `work` leaves in `result`: by a replay if there is one.
    /// `work` must give the same when it is done twice.
    ///
    /// # Errors
    /// Those of `work`; [`Unusable::Graph`] if recording failed, and the step was not computed.
    pub(super) fn step(
        &mut self,
        shape: Shape,
        result: &Tensor,
        mut work: impl FnMut() -> Result<()>,
    ) -> std::result::Result<(), Unusable> {
        let (seen, graph) = self.table.entry(shape).or_default();
        if let Some(graph) = graph {
            return graph.replay().map_err(Unusable::Step);
        }
        *seen += 1;
        let (Device::Cuda(device), true) = (result.device(), *seen > STEPS_BEFORE_RECORD) else {
            return work().map_err(Unusable::Step);
        };
        let graph = self.record(device, result, work).map_err(Unusable::Graph)?;
        self.table.entry(shape).or_default().1 = Some(graph);
        Ok(())
    }

    /// Records a step, computes it by a replay and compares that with the step itself.
    fn record(
        &self,
        device: usize,
        result: &Tensor,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<CudaGraph> {
        let with = self.table.values().find_map(|(_, graph)| graph.as_ref());
        let graph = CudaGraph::capture(device, with, &mut work)?;
        let mut itself = result.f_empty_like()?;
        itself.f_copy_(result)?;
        let _ = result.shallow_clone().f_fill_(f64::NAN)?;
        graph.replay()?;
        agree(&itself, result)?;
        Ok(graph)
    }
}

/// Why a step was not computed.
#[derive(Debug)]
pub(super) enum Unusable {
    /// Its operations failed.
    Step(Error),
    /// It could not be recorded; its operations may well succeed.
    Graph(Error),
}

/// Whether a replay gave what the step itself did.
fn agree(itself: &Tensor, replayed: &Tensor) -> Result<()> {
    let largest = |t: &Tensor| -> Result<f64> {
        Ok(f64::try_from(t.f_to_kind(Kind::Float)?.f_abs()?.f_max()?)?)
    };
    let scale = largest(itself)?;
    // A step that is not finite by itself is for the sampler to report.
    if !scale.is_finite() {
        return Ok(());
    }
    let off = largest(&itself.f_sub(replayed)?)?;
    // NaN fails the comparison.
    if off <= TOLERANCE * scale {
        return Ok(());
    }
    Err(Error::invalid(
        "CUDA graph",
        format!("a replayed step differs by {off} from the step, whose largest number is {scale}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rows: 1,
        own: 128,
        prompts: None,
        guidance: None,
    };

    #[test]
    fn off_a_gpu_every_step_is_computed() {
        let result = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let mut graphs = Graphs::default();
        let mut n = 0;
        for _ in 0..6 {
            let worked = graphs.step(SHAPE, &result, || {
                n += 1;
                Ok(())
            });
            assert!(worked.is_ok());
        }
        assert_eq!(n, 6);
        let failed = graphs.step(SHAPE, &result, || Err(Error::invalid("work", "failed")));
        assert!(matches!(failed, Err(Unusable::Step(_))));
    }

    #[test]
    fn replays_that_give_something_else_are_found_out() {
        let t = |x: [f32; 2]| Tensor::from_slice(&x);
        agree(&t([1.0, -4.0]), &t([1.05, -4.0])).unwrap();
        assert!(agree(&t([1.0, -4.0]), &t([1.1, -4.0])).is_err());
        assert!(agree(&t([1.0, -4.0]), &t([f32::NAN, -4.0])).is_err());
        agree(&t([f32::NAN, 1.0]), &t([f32::NAN, 1.0])).unwrap();
    }

    #[test]
    fn on_a_gpu_later_steps_are_replays() {
        if !crate::cuda_is_available() {
            eprintln!("skipped: there is no GPU");
            return;
        }
        let on = (Kind::Float, Device::Cuda(0));
        let (x, result) = (Tensor::zeros([2], on), Tensor::zeros([2], on));
        let mut graphs = Graphs::default();
        let mut n = 0;
        for i in 0..8 {
            let _ = x.shallow_clone().fill_(f64::from(i));
            let worked = graphs.step(SHAPE, &result, || {
                n += 1;
                result.shallow_clone().f_copy_(&x.f_mul_scalar(2.0)?)?;
                Ok(())
            });
            assert!(worked.is_ok(), "{worked:?}");
            assert_eq!(
                Vec::<f32>::try_from(&result).unwrap(),
                [2.0 * i as f32; 2],
                "step {i}"
            );
        }
        // Three plain ones, one to prepare the record and the record.
        assert_eq!(n, 5);
    }
}
