//! The processes of a run, and what they tell each other beside the work.

use std::sync::Arc;
use std::time::Duration;

use g2rpo::libtorch::{Launch, ProcessGroup};
use g2rpo::rollout::ranks::{Collective, RankError, share};
use g2rpo::train::recipe::settings::{DdpBackend, Recipe};
use tch::Device;

use super::failure::Failure;
use super::setup;

/// Connects the processes of a run.
pub(crate) fn join(launch: &Launch, recipe: &Recipe) -> Result<Arc<dyn Collective>, Failure> {
    let limit = Duration::from_secs(recipe.train.ddp_timeout);
    let own = setup::place(recipe, Some(launch.local_rank))?;
    let device = match (own, recipe.train.ddp_backend) {
        (Device::Cpu, Some(DdpBackend::Nccl)) => {
            let message = "ddp_backend = \"nccl\": NCCL sums on GPUs, and there is none here: leave it out, or set gloo";
            return Err(Failure::new(Failure::SETTINGS, message));
        }
        (_, Some(DdpBackend::Gloo)) => Device::Cpu,
        (device, _) => device,
    };
    Ok(Arc::new(ProcessGroup::join(launch, device, limit)?))
}

/// What came of something on this rank, unless another rank failed in it: all go on, or none.
pub(crate) fn together<T>(
    ranks: &dyn Collective,
    what: &'static str,
    done: Result<T, Failure>,
) -> Result<T, Failure> {
    let said = done.as_ref().map(|_| Vec::new());
    let said = said.map_err(|failure| failure.message().to_owned());
    let others = share(ranks, what, 0, said);
    let done = done?;
    others?;
    Ok(done)
}

/// Numbers of rank 0, on all ranks; the others bring none.
pub(crate) fn from_first(
    ranks: &dyn Collective,
    what: &'static str,
    numbers: Option<Vec<f64>>,
) -> Result<Vec<f64>, Failure> {
    let mut all = share(ranks, what, 0, Ok(numbers.unwrap_or_default()))?;
    Ok(all.swap_remove(0))
}

/// Whether any rank says so.
pub(crate) fn any(ranks: &dyn Collective, what: &'static str, yes: bool) -> Result<bool, Failure> {
    let all = share(ranks, what, 0, Ok(vec![f64::from(u8::from(yes))]))?;
    Ok(all.concat().iter().any(|said| *said > 0.0))
}

impl From<RankError> for Failure {
    fn from(error: RankError) -> Self {
        Self::new(Self::OTHER, error.to_string())
    }
}
