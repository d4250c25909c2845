//! The numbers of a model in one flat buffer, and their gradients.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::handle::Handle;
use crate::error::{Doing, Error, Result};

/// Name and shape of one parameter tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// The tensor's name in a Hugging Face checkpoint, such as `model.norm.weight`.
    pub name: String,
    /// Size of each dimension.
    pub shape: Vec<i64>,
}

impl ParamSpec {
    /// From name and shape.
    pub fn new(name: impl Into<String>, shape: &[i64]) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
        }
    }

    /// Number of elements; 1 for a scalar.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }

    /// The name of the linear layer inside the blocks whose weight this is, if it is one that may have an
    /// adapter: experts and their routers, as in PEFT, may not.
    pub(crate) fn adaptable(&self) -> Option<&str> {
        let layer = self.name.strip_suffix(".weight")?;
        let fits = self.shape.len() == 2
            && layer.contains(".layers.")
            && !layer.contains(".mlp.experts.")
            && !layer.ends_with(".mlp.gate");
        fits.then_some(layer)
    }
}

/// The parameters of a model: leaf tensors that all live in one flat buffer of one kind on one
/// device.
///
/// The flat buffer makes an optimiser step, a norm and a copy one tensor operation each, whatever
/// the number of layers. Every tensor starts at a multiple of 64 elements, so that vectorised
/// kernels find it aligned; the gaps hold zeros and stay zero under every operation of this crate.
///
/// The tensors returned by [`get`](Self::get) are autograd leaves of their own that share the
/// buffer's storage: what is written to the buffer is seen by every clone of them, in a model as
/// well.
#[derive(Debug)]
pub struct Parameters {
    flat: Tensor,
    layout: Layout,
    views: Vec<Tensor>,
}

impl Parameters {
    /// Parameters that are all zero and require gradients.
    ///
    /// # Errors
    /// [`Error::DuplicateParameter`] if two specs have the same name, [`Error::ParameterShape`] for a negative
    /// dimension, [`Error::Torch`] if the buffer cannot be allocated or the kind is not a
    /// floating-point kind.
    pub fn zeros(specs: &[ParamSpec], kind: Kind, device: Device) -> Result<Self> {
        let layout = Layout::new(specs)?;
        let flat = layout.allocate(kind, device, "parameters")?;
        Self::over(flat, layout, true)
    }

    /// A copy on the given device and of the given kind, sharing nothing.
    ///
    /// # Errors
    /// [`Error::Torch`] if the buffer cannot be allocated.
    pub fn to(&self, kind: Kind, device: Device) -> Result<Self> {
        let mut flat = self
            .layout
            .allocate(kind, device, "a copy of the parameters")?;
        tch::no_grad(|| flat.f_copy_(&self.flat)).doing(|| "copying the parameters".into())?;
        Self::over(flat, self.layout.clone(), self.trainable())
    }

    /// Another handle to the same tensors.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            flat: self.flat.shallow_clone(),
            layout: self.layout.clone(),
            views: self.views.iter().map(Tensor::shallow_clone).collect(),
        }
    }

    fn over(flat: Tensor, layout: Layout, trainable: bool) -> Result<Self> {
        let views = layout
            .views(&flat)?
            .into_iter()
            .map(|view| view.f_detach()?.f_set_requires_grad(trainable))
            .collect::<Result<_, tch::TchError>>()
            .doing(|| "making leaf tensors of the parameters".into())?;
        Ok(Self {
            flat,
            layout,
            views,
        })
    }

    /// The tensor of this name, a leaf that shares the flat buffer's storage.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if there is no such tensor.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.layout.position(name).map(|i| &self.views[i])
    }

    /// The same as a handle.
    pub(crate) fn handle(&self, name: &str) -> Result<Handle> {
        self.get(name).map(|tensor| tensor.shallow_clone().into())
    }

    /// All tensors, in the order of [`specs`](Self::specs).
    pub fn tensors(&self) -> &[Tensor] {
        &self.views
    }

    /// Names and shapes, in the order of the flat buffer.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.layout.specs
    }

    /// Where each tensor lies in the flat buffer.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The flat buffer, one dimension, alignment gaps included. It is not part of any graph.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The kind of every tensor.
    pub fn kind(&self) -> Kind {
        self.flat.kind()
    }

    /// The device of every tensor.
    pub fn device(&self) -> Device {
        self.flat.device()
    }

    /// Number of parameters, alignment gaps not counted.
    pub fn numel(&self) -> i64 {
        self.layout.specs.iter().map(ParamSpec::numel).sum()
    }

    /// Whether the tensors require gradients.
    pub fn trainable(&self) -> bool {
        self.views.first().is_some_and(Tensor::requires_grad)
    }

    /// Makes the tensors, and every clone of them held by a model, require gradients or not.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch refuses.
    pub fn set_trainable(&mut self, trainable: bool) -> Result<()> {
        for view in &self.views {
            let _ = view
                .f_set_requires_grad(trainable)
                .doing(|| "switching the gradient of parameters".into())?;
        }
        Ok(())
    }

    /// Overwrites one tensor, converting kind and device.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if there is no such tensor, [`Error::ParameterShape`] if `values` has not
    /// exactly its shape, [`Error::Torch`] if the copy fails.
    pub fn copy_from(&mut self, name: &str, values: &Tensor) -> Result<()> {
        let i = self.layout.position(name)?;
        let expected = &self.layout.specs[i].shape;
        if values.size() != *expected {
            return Err(Error::ParameterShape {
                name: name.into(),
                expected: expected.clone(),
                got: values.size(),
            });
        }
        tch::no_grad(|| self.views[i].shallow_clone().f_copy_(values))
            .doing(|| format!("copying values into {name}"))
    }

    /// Overwrites all tensors with those of a set of the same names and shapes.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] or [`Error::ParameterShape`] if the sets differ, [`Error::Torch`] if the
    /// copy fails.
    pub fn copy_all(&mut self, other: &Self) -> Result<()> {
        if self.layout != other.layout {
            for spec in other.specs() {
                self.copy_from(&spec.name, other.get(&spec.name)?)?;
            }
            return self
                .specs()
                .iter()
                .try_for_each(|s| other.get(&s.name).map(drop));
        }
        tch::no_grad(|| self.flat.f_copy_(&other.flat)).doing(|| "copying parameters".into())
    }

    /// The name of the first tensor that holds NaN or an infinity, if any.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch fails.
    pub fn first_not_finite(&self) -> Result<Option<&str>> {
        first_not_finite(&self.flat, &self.layout)
    }
}

/// Names, shapes and offsets of tensors in a flat buffer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    pub(crate) specs: Vec<ParamSpec>,
    pub(crate) offsets: Vec<i64>,
    pub(crate) len: i64,
    index: HashMap<String, usize>,
}

/// Elements between the possible starts of tensors: 256 bytes in f32, 128 in bf16, what the widest
/// vector loads on CPU and GPU ask for.
const ALIGNMENT: i64 = 64;

impl Layout {
    pub(crate) fn new(specs: &[ParamSpec]) -> Result<Self> {
        let mut index = HashMap::with_capacity(specs.len());
        let mut offsets = Vec::with_capacity(specs.len());
        let mut len = 0i64;
        for (i, spec) in specs.iter().enumerate() {
            if spec.shape.iter().any(|&n| n < 0) {
                return Err(Error::ParameterShape {
                    name: spec.name.clone(),
                    expected: spec.shape.iter().map(|&n| n.max(0)).collect(),
                    got: spec.shape.clone(),
                });
            }
            if index.insert(spec.name.clone(), i).is_some() {
                return Err(Error::DuplicateParameter(spec.name.clone()));
            }
            offsets.push(len);
            len += (spec.numel() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        }
        Ok(Self {
            specs: specs.to_vec(),
            offsets,
            len,
            index,
        })
    }

    /// A zeroed flat buffer of this layout; `what` names it in an out-of-memory error.
    pub(crate) fn allocate(&self, kind: Kind, device: Device, what: &str) -> Result<Tensor> {
        Tensor::f_zeros([self.len], (kind, device)).doing(|| {
            let bytes = self.len as usize * kind.elt_size_in_bytes();
            format!("allocating {bytes} bytes on {device:?} for {what}")
        })
    }

    pub(crate) fn position(&self, name: &str) -> Result<usize> {
        self.index
            .get(name)
            .copied()
            .ok_or_else(|| Error::UnknownParameter(name.into()))
    }

    /// Views of the tensors in a flat buffer of this layout.
    pub(crate) fn views(&self, flat: &Tensor) -> Result<Vec<Tensor>> {
        (self.specs.iter().zip(&self.offsets))
            .map(|(spec, &at)| flat.f_narrow(0, at, spec.numel())?.f_view(&spec.shape[..]))
            .collect::<Result<_, tch::TchError>>()
            .doing(|| "viewing tensors in a flat buffer".into())
    }

    /// The name of the tensor that element `at` belongs to.
    pub(crate) fn owner(&self, at: i64) -> &str {
        let i = self.offsets.partition_point(|&start| start <= at);
        self.specs.get(i.wrapping_sub(1)).map_or("", |s| &s.name)
    }
}

/// The name of the first tensor in `flat` that holds NaN or an infinity.
pub(crate) fn first_not_finite<'a>(flat: &Tensor, layout: &'a Layout) -> Result<Option<&'a str>> {
    if layout.len == 0 {
        return Ok(None);
    }
    let at = tch::no_grad(|| {
        // Minimum and maximum propagate NaN, and need no temporary as large as the buffer.
        let (min, max) = flat.f_aminmax(None, false)?;
        if f64::try_from(min)?.is_finite() && f64::try_from(max)?.is_finite() {
            return Ok(None);
        }
        let bad = flat.f_isfinite()?.f_logical_not()?.f_nonzero()?;
        i64::try_from(bad.f_get(0)?.f_get(0)?).map(Some)
    })
    .doing(|| "looking for values that are not finite".into())?;
    Ok(at.map(|at| layout.owner(at)))
}

/// The kind that log-probabilities of a model of this kind are computed in.
pub(crate) fn float_kind(kind: Kind) -> Kind {
    match kind {
        Kind::Double => Kind::Double,
        _ => Kind::Float,
    }
}

/// Gradients of a set of parameters, summed over backward passes in one flat buffer.
///
/// Gradients of bf16 and f16 parameters are kept in f32: sums over many micro-batches would lose
/// the small contributions otherwise.
#[derive(Debug)]
pub(crate) struct Gradients {
    flat: Tensor,
    views: Vec<Tensor>,
}

impl Gradients {
    /// All zero.
    pub(crate) fn zeros(parameters: &Parameters) -> Result<Self> {
        let kind = float_kind(parameters.kind());
        let layout = parameters.layout();
        let flat = layout.allocate(kind, parameters.device(), "gradients")?;
        let views = layout.views(&flat)?;
        Ok(Self { flat, views })
    }

    /// The flat buffer, laid out as the parameters are.
    pub(crate) fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The gradient of parameter `i`, to be added to in place.
    pub(crate) fn view(&self, i: usize) -> Tensor {
        self.views[i].shallow_clone()
    }

    /// Adds to the gradient of parameter `i`; an undefined tensor, which is what autograd returns
    /// for an input that the output does not depend on, adds nothing.
    pub(crate) fn add(&mut self, i: usize, gradient: &Tensor) -> Result<()> {
        if !gradient.defined() {
            return Ok(());
        }
        tch::no_grad(|| self.views[i].f_add_(gradient))
            .map(drop)
            .doing(|| "adding to a gradient".into())
    }

    /// Sets all to zero.
    pub(crate) fn clear(&mut self) -> Result<()> {
        tch::no_grad(|| self.flat.f_zero_())
            .map(drop)
            .doing(|| "clearing gradients".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    fn two() -> Parameters {
        let specs = [ParamSpec::new("a", &[2, 3]), ParamSpec::new("b", &[70])];
        Parameters::zeros(&specs, Kind::Float, Device::Cpu).unwrap()
    }

    #[test]
    fn leaves_share_the_flat_buffer() {
        let mut p = two();
        p.copy_from("b", &Tensor::arange(70, (Kind::Float, Device::Cpu)))
            .unwrap();
        assert_eq!(p.flat().size(), [64 + 128]);
        assert_eq!(p.flat().double_value(&[64 + 69]), 69.0);
        let clone = p.get("b").unwrap().shallow_clone();
        let _ = tch::no_grad(|| p.flat().shallow_clone().f_mul_scalar_(2.0)).unwrap();
        assert_eq!(clone.double_value(&[69]), 138.0);
        assert_eq!(p.numel(), 76);
    }

    #[test]
    fn gradients_reach_leaves_and_not_the_buffer() {
        let p = two();
        let a = p.get("a").unwrap();
        let b = p.get("b").unwrap();
        let y = (a * 3.0).sum(Kind::Float);
        let grads = Tensor::f_run_backward(&[&y], &[a, b], false, false).unwrap();
        assert!(!grads[1].defined());
        let mut g = Gradients::zeros(&p).unwrap();
        for (i, grad) in grads.iter().enumerate() {
            g.add(i, grad).unwrap();
            g.add(i, grad).unwrap();
        }
        assert_eq!(f64::try_from(g.flat().sum(Kind::Double)).unwrap(), 36.0);
        assert!(!p.flat().requires_grad());
        g.clear().unwrap();
        assert_eq!(f64::try_from(g.flat().abs().max()).unwrap(), 0.0);
    }

    #[test]
    fn clones_follow_set_trainable() {
        let mut p = two();
        let clone = p.get("a").unwrap().shallow_clone();
        p.set_trainable(false).unwrap();
        assert!(!clone.requires_grad() && !p.trainable());
    }

    #[test]
    fn mistakes_are_named() {
        let mut p = two();
        let five = Tensor::zeros([5], (Kind::Float, Device::Cpu));
        let expected = "parameter `a`: expected shape [2, 3], got [5]";
        says(p.copy_from("a", &five), expected);
        says(p.get("c"), "no parameter is named `c`");
        for shapes in [&[1, 1][..], &[-1]] {
            let specs: Vec<_> = (shapes.iter().map(|&n| ParamSpec::new("a", &[n]))).collect();
            assert!(Parameters::zeros(&specs, Kind::Float, Device::Cpu).is_err());
        }
    }

    #[test]
    fn the_tensor_that_is_not_finite_is_named() {
        let mut p = two();
        assert_eq!(p.first_not_finite().unwrap(), None);
        let b = Tensor::full([70], f64::NEG_INFINITY, (Kind::Float, Device::Cpu));
        p.copy_from("b", &b).unwrap();
        assert_eq!(p.first_not_finite().unwrap(), Some("b"));
        let a = Tensor::full([2, 3], f64::NAN, (Kind::Float, Device::Cpu));
        p.copy_from("a", &a).unwrap();
        assert_eq!(p.first_not_finite().unwrap(), Some("a"));
    }

    #[test]
    fn a_copy_shares_nothing() {
        let p = two();
        let mut q = p.to(Kind::BFloat16, Device::Cpu).unwrap();
        q.copy_from("a", &Tensor::ones([2, 3], (Kind::Float, Device::Cpu)))
            .unwrap();
        assert_eq!(p.get("a").unwrap().double_value(&[0, 0]), 0.0);
        assert_eq!(q.kind(), Kind::BFloat16);
    }
}
