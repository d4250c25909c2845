//! The trait that joins a model under any autograd to the losses of this crate.

use crate::error::Result;
use crate::ragged::Ragged;
use crate::sequences::Sequences;
use crate::settings::POSITIVE;

/// Bring your own autograd: a model that can score sequences and be updated.
///
/// The learner owns parameters, gradients and the optimiser; it knows nothing of rewards or
/// losses. One optimiser step is any number of [`accumulate`](Self::accumulate) calls followed by
/// one [`apply`](Self::apply).
pub trait Learner {
    /// What can go wrong in the backend.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Log-probability of every completion token, and its entropy when that is asked for, without
    /// gradient.
    ///
    /// [`TokenOutputs::rows`] is `0..n`: one row per sequence, one entry per completion token.
    /// Used for `logp_old` ([`WhichPolicy::Current`]), `logp_ref` ([`WhichPolicy::Reference`]),
    /// and the entropies of [`crate::BatchTotals::with_entropies`].
    ///
    /// # Errors
    /// The backend's. What a learner cannot do (a temperature, an entropy, a reference policy) it
    /// refuses; it never leaves a wish of `scoring` aside.
    fn token_logps(
        &mut self,
        sequences: &Sequences,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs, Self::Error>;

    /// Adds to the gradient: scores the sequences, in micro-batches of the learner's own choice,
    /// and for each asks `loss` for the derivative with respect to every log-probability.
    ///
    /// `loss` sees every row exactly once over all its calls. It returns derivatives for the rows
    /// that it was shown, in the same shape.
    ///
    /// # Errors
    /// The backend's, as for [`token_logps`](Self::token_logps), or an error of `loss`, wrapped. The accumulated gradient is then cleared, so
    /// that a later `apply` cannot use half of it.
    fn accumulate(
        &mut self,
        sequences: &Sequences,
        scoring: &Scoring,
        loss: &mut dyn FnMut(&TokenOutputs) -> Result<TokenGrads>,
    ) -> Result<(), Self::Error>;

    /// Updates the parameters from the accumulated gradient and clears it.
    ///
    /// # Errors
    /// The backend's; a gradient that is not finite is refused before it touches a parameter.
    fn apply(&mut self, lr: f64) -> Result<UpdateStats, Self::Error>;
}

/// Whose log-probabilities are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhichPolicy {
    /// The parameters as they are now.
    Current,
    /// The frozen reference of the KL term.
    Reference,
}

/// What a forward pass is to compute.
///
/// ```
/// use g2rpo_core::Scoring;
/// assert_eq!(Scoring::default(), Scoring { temperature: 1.0, entropy: false });
/// assert!(Scoring { temperature: 0.0, entropy: false }.check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scoring {
    /// Log-probabilities and entropies are those of `softmax(logits / temperature)`: the
    /// temperature that the completions were sampled at, above 0. Default 1.
    pub temperature: f64,
    /// Whether the entropy of every token's distribution is wanted. Default `false`.
    pub entropy: bool,
}

impl Default for Scoring {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            entropy: false,
        }
    }
}

impl Scoring {
    /// Checks the temperature; every learner does this first.
    ///
    /// # Errors
    /// [`crate::Error::Config`] unless the temperature is finite and above 0.
    pub fn check(&self) -> Result<()> {
        POSITIVE.check("temperature", self.temperature)
    }
}

/// What a forward pass says about some rows of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenOutputs {
    /// Which rows of the batch these are, in the order of the streams below.
    pub rows: Vec<usize>,
    /// Log-probability of every completion token.
    pub logp: Ragged<f64>,
    /// Entropy in nats of the distribution each completion token was drawn from; absent when
    /// [`Scoring::entropy`] did not ask for it.
    pub entropy: Option<Ragged<f64>>,
}

/// Derivative of the loss with respect to the streams of [`TokenOutputs`], in the same shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenGrads {
    /// ∂loss/∂logp, exactly 0 for tokens outside the loss.
    pub logp: Ragged<f64>,
    /// ∂loss/∂entropy; absent when the loss has no entropy term.
    pub entropy: Option<Ragged<f64>>,
}

/// What an optimiser step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateStats {
    /// Euclidean norm of the gradient before clipping.
    pub grad_norm: f64,
    /// The learning rate that was used.
    pub lr: f64,
    /// How evenly experts were read, for models that have them.
    pub experts: Option<ExpertLoad>,
}

/// How evenly the completion tokens of a step were spread over the experts of a mixture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertLoad {
    /// Tokens of the expert that most read, over the number that each would have if all were read alike;
    /// the largest of all layers. 1 is even, the number of experts is a collapsed router.
    pub max: f64,
    /// Share of the experts of all layers that no token read.
    pub idle: f64,
}

impl ExpertLoad {
    /// From how often each expert was read, layer by layer; `None` if none was.
    pub fn of(layers: &[Vec<u64>]) -> Option<Self> {
        let (mut max, mut experts, mut idle) = (0f64, 0usize, 0usize);
        for reads in layers {
            let total: u64 = reads.iter().sum();
            if total == 0 {
                continue;
            }
            let most = reads.iter().max().copied().unwrap_or(0);
            let even = total as f64 / reads.len() as f64;
            max = max.max(most as f64 / even);
            experts += reads.len();
            idle += reads.iter().filter(|&&n| n == 0).count();
        }
        let idle = idle as f64 / experts as f64;
        (experts > 0).then_some(Self { max, idle })
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<L: Learner + ?Sized> Learner for $pointer {
            type Error = L::Error;

            fn token_logps(
                &mut self,
                sequences: &Sequences,
                policy: WhichPolicy,
                scoring: &Scoring,
            ) -> Result<TokenOutputs, Self::Error> {
                (**self).token_logps(sequences, policy, scoring)
            }

            fn accumulate(
                &mut self,
                sequences: &Sequences,
                scoring: &Scoring,
                loss: &mut dyn FnMut(&TokenOutputs) -> Result<TokenGrads>,
            ) -> Result<(), Self::Error> {
                (**self).accumulate(sequences, scoring, loss)
            }

            fn apply(&mut self, lr: f64) -> Result<UpdateStats, Self::Error> {
                (**self).apply(lr)
            }
        }
    )*};
}

forward!(&mut L, Box<L>);
