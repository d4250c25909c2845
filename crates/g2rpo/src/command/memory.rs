//! Memory of a run: what it will take by part, and what it took.

use std::fmt;
use std::fs;

use g2rpo::guidance::Method;
use g2rpo::libtorch::Model;
use g2rpo::train::recipe::settings::Recipe;

use super::console::bytes;

/// What a run will take, in bytes. Generating, learning, and the reading and writing of a checkpoint come one after
/// the other, so the largest of them counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Libraries, tokenizer and data, as they are now; 0 where the model is on a GPU.
    program: f64,
    parameters: f64,
    /// Gradient, moments, and master weights beside 16 bits.
    optimiser: f64,
    reference: f64,
    generating: f64,
    learning: f64,
    /// A checkpoint in memory, as it is when a run is resumed.
    resuming: f64,
    /// The weights as they are written.
    saving: f64,
}

/// By how much libraries grow once they work: code that is read in, buffers of their own.
const LIBRARIES: f64 = 32e6;

impl Memory {
    /// Estimates it for `completions` a step, of at most `per_row` tokens with their prompt. Called
    /// when model and data are there and nothing else is.
    pub(crate) fn estimate(
        recipe: &Recipe,
        method: &Method,
        model: &Model,
        completions: usize,
        per_row: usize,
        resumed: bool,
    ) -> Self {
        let element = if model.parameters.kind() == tch::Kind::Float {
            4.0
        } else {
            2.0
        };
        let parameters = model.parameters.numel() as f64;
        let trained = match &model.adapter {
            Some(adapter) => adapter.parameters().numel() as f64,
            None => parameters,
        };
        let master = if element < 4.0 { 4.0 } else { 0.0 };
        let copy = method.loss.needs_reference() && model.adapter.is_none();
        let c = &model.config;
        let kv_token =
            2.0 * (c.num_hidden_layers * c.num_key_value_heads * c.head_dim) as f64 * element;
        let rows = completions.min(recipe.generate.max_rows) as f64;
        let most = (recipe.generate.max_cache_mib << 20) as f64;
        let update = completions.div_ceil(recipe.train.steps_per_generation) * per_row;
        let micro = recipe
            .model
            .max_tokens_per_micro_batch
            .clamp(per_row, update.max(per_row));
        let micro = micro as f64;
        let logits =
            (micro * c.vocab_size as f64 * 4.0).min((recipe.model.max_logits_mib << 20) as f64);
        let here = model.parameters.device() == tch::Device::Cpu;
        let layers = c.num_hidden_layers as f64;
        let hidden = c.hidden_size as f64 * element;
        let layer = activations(model, per_row, here) * element;
        // Gradients take as much again, of one layer at a time.
        let kept = if recipe.model.gradient_checkpointing {
            layers * hidden + 2.0 * layer
        } else {
            layers * layer + layer
        };
        let reference = if copy { parameters * element } else { 0.0 };
        // Weights and moments in f32, as a checkpoint has them.
        let state = trained * (8.0 + 4.0) + reference;
        let parameters = parameters * element;
        let program = resident("VmRSS").filter(|_| here);
        Self {
            program: program.map_or(0.0, |now| (now - parameters).max(0.0) + LIBRARIES),
            parameters,
            optimiser: trained * (8.0 + element + master),
            reference,
            generating: (rows * per_row as f64 * kv_token).min(most),
            learning: micro * kept + 3.0 * logits,
            resuming: if resumed { state } else { 0.0 },
            // Adapters are merged into a copy of the weights.
            saving: model.adapter.as_ref().map_or(0.0, |_| parameters),
        }
    }

    fn total(&self) -> f64 {
        self.program
            + self.parameters
            + self.optimiser
            + self.reference
            + (self.generating.max(self.learning))
                .max(self.resuming)
                .max(self.saving)
    }

    /// What was taken at most so far beside what was expected; nothing where that is not known, as
    /// on a GPU.
    pub(crate) fn told(&self) -> Option<String> {
        let peak = resident("VmHWM").filter(|_| self.program > 0.0)?;
        Some(format!(
            "memory: {} at its peak, {} estimated",
            bytes(peak),
            bytes(self.total())
        ))
    }
}

/// Numbers that autograd keeps of a layer for each token, in rows of `per_row` tokens.
fn activations(model: &Model, per_row: usize, on_cpu: bool) -> f64 {
    let c = &model.config;
    let queries = c.num_attention_heads * c.head_dim;
    let keys = c.num_key_value_heads * c.head_dim;
    // Input and output of both norms; queries, keys and values as they are turned; what attention puts out, twice, as it
    // is laid out anew; gate, up, the gate's activation and their product.
    let mut numbers = 4 * c.hidden_size + 3 * queries + 2 * keys + 4 * c.intermediate_size;
    if model.adapter.is_none() {
        // Norms that are trained keep what they scale.
        numbers += 2 * c.hidden_size;
    }
    if on_cpu {
        // Where heads share keys, libtorch keeps the weights of attention here.
        numbers += c.num_attention_heads * per_row;
    }
    numbers as f64
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "memory: program and data {}, parameters {}, optimiser {}, reference {}, and while generating {}, while \
             learning {}, while resuming {} or while saving {}: {} in all",
            bytes(self.program),
            bytes(self.parameters),
            bytes(self.optimiser),
            bytes(self.reference),
            bytes(self.generating),
            bytes(self.learning),
            bytes(self.resuming),
            bytes(self.saving),
            bytes(self.total())
        )
    }
}

/// A line of Linux's account of this process in bytes: `VmRSS` is now, `VmHWM` the most so far.
fn resident(line: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(line))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}
