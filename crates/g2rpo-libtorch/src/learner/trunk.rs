//! The layers below the LM head, forward and backward, with and without checkpointing.

use std::cell::RefCell;

use tch::{TchError, Tensor};

use crate::error::{Doing, Result};
use crate::model::context::Context;
use crate::model::decoder::Decoder;
use crate::model::experts::load;
use crate::model::params::{Gradients, ParamSpec};

/// The layers of a decoder, forwards and backwards, one layer at a time.
///
/// The graph is cut at every layer's input. The backward pass takes a layer's graph, or builds it
/// anew from the saved input (activation checkpointing), runs it with the gradient of the output,
/// adds the parameters' gradients to the flat buffer at once, and hands the input's gradient down.
/// So never more than one layer's parameter gradients exist beside the flat buffer, and with
/// checkpointing never more than one layer's activations.
#[derive(Debug)]
pub(crate) struct Trunk<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) trained: &'a Trained,
    pub(crate) checkpointing: bool,
}

/// Which of the trained parameters belong to which part of the decoder: indices into the list
/// that the gradients are kept for.
#[derive(Debug)]
pub(crate) struct Trained {
    tensors: Vec<Tensor>,
    layers: Vec<Vec<usize>>,
    norm: Vec<usize>,
    embedding: Option<usize>,
    /// The vocabulary projection; the embedding's index again when they are tied.
    pub(crate) head: Option<usize>,
}

impl Trained {
    /// Sorts parameters by their names. `tensors` are the leaves, in the order of `specs`.
    pub(crate) fn new(
        specs: &[ParamSpec],
        tensors: &[Tensor],
        n_layers: usize,
        tied: bool,
    ) -> Self {
        let mut trained = Self {
            tensors: tensors.iter().map(Tensor::shallow_clone).collect(),
            layers: vec![Vec::new(); n_layers],
            norm: Vec::new(),
            embedding: None,
            head: None,
        };
        for (i, spec) in specs.iter().enumerate() {
            let layer = (spec.name.strip_prefix("model.layers."))
                .and_then(|rest| rest.split('.').next())
                .and_then(|number| number.parse::<usize>().ok());
            match (layer, spec.name.as_str()) {
                (Some(layer), _) => trained.layers[layer].push(i),
                (None, "model.norm.weight") => trained.norm.push(i),
                (None, "model.embed_tokens.weight") => trained.embedding = Some(i),
                (None, _) => trained.head = Some(i),
            }
        }
        if tied {
            trained.head = trained.embedding;
        }
        trained
    }
}

/// What the forward pass leaves for the backward pass.
#[derive(Debug)]
pub(crate) struct Activations {
    /// Per layer with experts, how often each was read for a selected position.
    pub(crate) expert_loads: Vec<Vec<u64>>,
    context: Context,
    /// Input of every layer, a leaf.
    inputs: Vec<Tensor>,
    /// Output of every layer, with its graph; empty when layers are recomputed.
    outputs: Vec<Tensor>,
    /// Where the selected positions are in `B · T`.
    position_n: Tensor,
    /// The last layer's output at the selected positions, a leaf, `[N, H]`.
    selected_nh: Tensor,
    /// The same behind the final norm, with its graph.
    normed_nh: Tensor,
    shape_bth: [i64; 3],
}

impl Activations {
    /// The hidden states that the vocabulary projection reads, `[N, H]`, outside any graph.
    pub(crate) fn hidden_nh(&self) -> Result<Tensor> {
        (self.normed_nh.f_detach()).doing(|| "detaching hidden states".into())
    }
}

impl Trunk<'_> {
    /// Hidden states at the given positions (of `B · T`), behind the final norm, `[N, H]`; leaves
    /// nothing.
    pub(crate) fn infer(&self, ids_bt: &Tensor, position_n: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| {
            let context = self.decoder.causal_context(ids_bt.size()[1] as usize)?;
            let mut x_bth = self.decoder.embed(ids_bt)?;
            for i in 0..self.decoder.n_layers() {
                x_bth = self.decoder.layer(i, &x_bth, &context)?;
            }
            self.decoder.final_norm(&select(&x_bth, position_n)?)
        })
        .doing(|| describe("scoring", ids_bt))
    }

    /// As [`infer`](Self::infer), with what a backward pass needs.
    pub(crate) fn forward(&self, ids_bt: &Tensor, position_n: &Tensor) -> Result<Activations> {
        self.try_forward(ids_bt, position_n)
            .doing(|| describe("scoring for a gradient", ids_bt))
    }

    fn try_forward(&self, ids_bt: &Tensor, position_n: &Tensor) -> Result<Activations> {
        let mut context = tch::no_grad(|| self.decoder.causal_context(ids_bt.size()[1] as usize))?;
        let experts = self.decoder.config().experts;
        context.routes = experts.map(|_| RefCell::default());
        let n_layers = self.decoder.n_layers();
        let mut inputs = Vec::with_capacity(n_layers);
        let mut outputs = Vec::new();
        let mut x_bth = tch::no_grad(|| self.decoder.embed(ids_bt))?;
        for i in 0..n_layers {
            let input = leaf(&x_bth, i > 0 || self.trained.embedding.is_some())?;
            x_bth = match self.checkpointing {
                true => tch::no_grad(|| self.decoder.layer(i, &input, &context))?,
                false => {
                    let output = tch::with_grad(|| self.decoder.layer(i, &input, &context))?;
                    let detached = output.f_detach()?;
                    outputs.push(output);
                    detached
                }
            };
            inputs.push(input);
        }
        let selected_nh = leaf(&tch::no_grad(|| select(&x_bth, position_n))?, true)?;
        let normed_nh = tch::with_grad(|| self.decoder.final_norm(&selected_nh))?;
        let routes = context.routes.take().unwrap_or_default().into_inner();
        let expert_loads = (routes.iter())
            .map(|route| load(route, position_n, experts.map_or(0, |e| e.num_experts)))
            .collect::<Result<_>>()?;
        Ok(Activations {
            expert_loads,
            context,
            inputs,
            outputs,
            position_n: position_n.shallow_clone(),
            selected_nh,
            normed_nh,
            shape_bth: x_bth.size3()?.into(),
        })
    }

    /// Adds the gradients of all parameters up to the final norm, given that of the hidden states.
    pub(crate) fn backward(
        &self,
        ids_bt: &Tensor,
        activations: Activations,
        hidden_grad_nh: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        self.try_backward(ids_bt, activations, hidden_grad_nh, gradients)
            .doing(|| describe("computing the gradient", ids_bt))
    }

    fn try_backward(
        &self,
        ids_bt: &Tensor,
        mut a: Activations,
        hidden_grad_nh: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let (output, input) = (&a.normed_nh, Some(&a.selected_nh));
        let norm = &self.trained.norm;
        let grad_nh = self.piece(output, hidden_grad_nh, input, norm, gradients)?;
        let [rows, positions, width] = a.shape_bth;
        let on = (grad_nh.kind(), grad_nh.device());
        let mut grad_bth = Tensor::f_zeros([rows * positions, width], on)?;
        // Positions are distinct, so a copy is a sum.
        grad_bth = (grad_bth.f_index_copy_(0, &a.position_n, &grad_nh)?).f_view(a.shape_bth)?;
        drop((a.selected_nh, a.normed_nh));
        for i in (0..self.decoder.n_layers()).rev() {
            let Some(input) = a.inputs.pop() else { break };
            let output = match a.outputs.pop() {
                Some(output) => output,
                None => tch::with_grad(|| self.decoder.layer(i, &input, &a.context))?,
            };
            let wanted = input.requires_grad().then_some(&input);
            let layer = &self.trained.layers[i];
            grad_bth = self.piece(&output, &grad_bth, wanted, layer, gradients)?;
        }
        if let Some(embedding) = self.trained.embedding {
            let mut grad = gradients.view(embedding);
            let rows = grad_bth.f_view([-1, width])?.f_to_kind(grad.kind())?;
            let factor = self.decoder.embedding_multiplier;
            let rows = match factor == 1.0 {
                true => rows,
                false => rows.f_mul_scalar(factor)?,
            };
            let _ = tch::no_grad(|| grad.f_index_add_(0, &ids_bt.f_view(-1)?, &rows))?;
        }
        Ok(())
    }

    /// Runs the graph between `input` and `output` backwards; returns the input's gradient, or an
    /// undefined tensor if there is no input that wants one.
    fn piece(
        &self,
        output: &Tensor,
        output_grad: &Tensor,
        input: Option<&Tensor>,
        parameters: &[usize],
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let mut leaves: Vec<&Tensor> = input.into_iter().collect();
        leaves.extend(parameters.iter().map(|&i| &self.trained.tensors[i]));
        if leaves.is_empty() {
            return Ok(Tensor::new());
        }
        // The derivative of this scalar with respect to the output is exactly `output_grad`.
        let scalar = tch::with_grad(|| output.f_mul(output_grad)?.f_sum(output.kind()))?;
        let mut grads = Tensor::f_run_backward(&[scalar], &leaves, false, false)?.into_iter();
        let input_grad = match input {
            Some(_) => grads.next().unwrap_or_default(),
            None => Tensor::new(),
        };
        for (&i, grad) in parameters.iter().zip(grads) {
            gradients.add(i, &grad)?;
        }
        Ok(input_grad)
    }
}

fn leaf(x: &Tensor, requires_grad: bool) -> Result<Tensor, TchError> {
    x.f_detach()?.f_set_requires_grad(requires_grad)
}

/// Rows of `[B, T, H]` at positions of `B · T`: `[N, H]`.
fn select(x_bth: &Tensor, position_n: &Tensor) -> Result<Tensor, TchError> {
    let width = *x_bth.size().last().unwrap_or(&0);
    x_bth.f_reshape([-1, width])?.f_index_select(0, position_n)
}

fn describe(doing: &str, ids_bt: &Tensor) -> String {
    let size = ids_bt.size();
    format!("{doing} {} rows of {} positions", size[0], size[1])
}
