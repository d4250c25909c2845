//! Memory of a run: what it will take by part, and what it took.

use std::fmt;
use std::fs;

use g2rpo::guidance::Method;
use g2rpo::libtorch::{EngineConfig, Model};
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
        let element = element(model);
        let parameters = model.parameters.numel() as f64;
        let trained = match &model.adapter {
            Some(adapter) => adapter.parameters().numel() as f64,
            None => parameters,
        };
        let master = if element < 4.0 { 4.0 } else { 0.0 };
        let copy = method.loss.needs_reference() && model.adapter.is_none();
        let update = completions.div_ceil(recipe.train.steps_per_generation);
        let rows =
            (recipe.model.max_tokens_per_micro_batch / per_row.max(1)).clamp(1, update.max(1));
        let most = method.loss.max_completion_length.min(per_row);
        let here = model.parameters.device() == tch::Device::Cpu;
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
            generating: generating(recipe, method, model, completions, per_row - most),
            learning: learning(recipe, model, rows * per_row, rows * most),
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

/// Bytes of a parameter or activation.
fn element(model: &Model) -> f64 {
    match model.parameters.kind() {
        tch::Kind::Float => 4.0,
        _ => 2.0,
    }
}

/// Bytes that are held while `completions` are generated behind prompts of `prompt` tokens: what the
/// rows at work keep, prompts once for all rows of a group, and the computation of the prompts.
fn generating(
    recipe: &Recipe,
    method: &Method,
    model: &Model,
    completions: usize,
    prompt: usize,
) -> f64 {
    let c = &model.config;
    let rows = completions.min(recipe.generate.max_rows);
    let own = method.loss.max_completion_length;
    let prompts = rows.div_ceil(method.num_generations) * prompt;
    let mut kept = 0.0;
    for layer in &c.layers {
        kept += match (&c.delta_net, layer.delta_net) {
            (Some(net), true) => (rows * net.value_heads * net.key_width * net.value_width) as f64,
            _ => {
                let seen = |n: usize| n.min(layer.window.unwrap_or(n));
                let prompts = rows.div_ceil(method.num_generations) * seen(prompt);
                (2 * c.num_key_value_heads * c.head_dim * (rows * seen(own) + prompts)) as f64
            }
        };
    }
    let most = (recipe.generate.max_cache_mib << 20) as f64;
    // Keys and values are copied from where they are computed.
    let prefill = prompts.min(EngineConfig::default().max_prefill_tokens) as f64;
    let width = (2 * c.num_key_value_heads * c.head_dim * c.num_hidden_layers) as f64;
    (kept * element(model)).min(most)
        + prefill * (width + activations(model, 0) / 2.0) * element(model)
}

/// Bytes that are held while gradients of `positions` tokens are computed, of which `predicted` are of
/// completions: at the vocabulary projection, or below it in the layers, whichever is more.
fn learning(recipe: &Recipe, model: &Model, positions: usize, predicted: usize) -> f64 {
    let c = &model.config;
    let positions = positions as f64;
    let layer = |i: usize| activations(model, i);
    let all: f64 = (0..c.num_hidden_layers).map(layer).sum();
    let largest = (0..c.num_hidden_layers).map(layer).fold(0.0, f64::max);
    let projection = match model.adapter {
        // The gradient of the embedding or of the projection, before it is added to the others.
        None => (c.vocab_size * c.hidden_size) as f64,
        Some(_) => 0.0,
    };
    let logits = (4 * predicted * c.vocab_size) as f64;
    let logits = logits.min((recipe.model.max_logits_mib << 20) as f64);
    let inputs = (c.num_hidden_layers * c.hidden_size) as f64;
    // What the backward pass of the layer at work takes besides, as measured.
    let (kept, at_work) = match recipe.model.gradient_checkpointing {
        true => (inputs, 1.3 * largest),
        false => (inputs + all, 0.5 * largest),
    };
    // Logits, and their gradient where it is not written over them; hidden states there, their norm and gradients.
    let above = 5.0 / 3.0 * logits;
    let hidden = (5 * predicted * c.hidden_size) as f64;
    let below = positions * at_work * element(model);
    (positions * kept + projection + hidden) * element(model) + above.max(below)
}

/// Numbers that autograd keeps of layer `i` for each token.
fn activations(model: &Model, i: usize) -> f64 {
    let c = &model.config;
    let (block, layer) = (
        c.architecture.block(),
        c.layers.get(i).copied().unwrap_or_default(),
    );
    let h = c.hidden_size;
    // Inputs and outputs of norms; norms that are trained keep what they scale.
    let norms = if block.output_norms { 4 } else { 2 };
    let mut numbers = norms * h * if model.adapter.is_none() { 3 } else { 2 };
    numbers += match (&c.delta_net, layer.delta_net) {
        (Some(net), true) => {
            let channels = 2 * net.key_heads * net.key_width + net.value_heads * net.value_width;
            // Of every value head six matrices over a chunk of 64 positions, queries, keys and values as they go
            // through the scan, and three memories for each chunk.
            let scan = 6 * 64
                + 10 * net.key_width
                + 9 * net.value_width
                + 3 * net.key_width * net.value_width / 64;
            3 * channels + net.value_heads * scan
        }
        _ => {
            let queries = c.num_attention_heads * c.head_dim;
            let keys = c.num_key_value_heads * c.head_dim;
            // Queries, keys and values as they are turned; what attention puts out, twice, as it is laid out anew.
            let mut numbers = 3 * queries + 2 * keys;
            if keys < queries {
                // Keys and values, a copy for every query head.
                numbers += 2 * queries;
            }
            if block.qk_norm {
                numbers += 2 * (queries + keys);
            }
            if block.output_gate {
                numbers += 2 * queries;
            }
            numbers
        }
    };
    // Gate, up, the gate's activation and their product.
    numbers += match (&c.experts, layer.experts) {
        // And for every expert that is read, its input and output, laid out anew.
        (Some(e), true) => e.num_experts_per_tok * 4 * (e.intermediate_size + h),
        _ => 4 * c.intermediate_size,
    };
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
