//! A part of what rows read, by flash attention.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::shape::{PartShape, width_bucket};
use crate::error::Result;
use crate::generate::cuda::flash::{Varlen, VarlenKernel};
use crate::generate::partial::Partial;
use crate::generate::readers::Shared;

/// Who reads which contexts of the pool: prompts are one such part of what rows read, guidance is
/// another. Its tensors stay where they are and are written in place.
#[derive(Debug)]
pub(super) struct Part {
    /// int32, `[rows + 1]` and `[rows + 1]` and `[rows]`, as in [`Varlen`].
    cu_q: Tensor,
    cu_k: Tensor,
    used_k: Tensor,
    /// Rows in the order in which contexts are read together, `[rows]`.
    gather: Tensor,
    /// The place of every row in that order, `[rows]`.
    scatter: Tensor,
    /// Whether a row reads nothing, `[rows]`.
    absent: Tensor,
    shape: Option<PartShape>,
}

/// What the tensors of a part hold.
#[derive(Debug, PartialEq, Eq)]
struct Arrangement {
    /// In rows; heads that share a kv head are counted later.
    cu_q: Vec<i32>,
    cu_k: Vec<i32>,
    used_k: Vec<i32>,
    gather: Vec<i64>,
    scatter: Vec<i64>,
    absent: Vec<bool>,
    shape: Option<PartShape>,
}

/// Finds the arrangement for the readers of these contexts, positions of the pool, among `rows` rows, of which the
/// others read nothing; no row reads two.
///
/// Where several rows read a context they do so together, as queries of one sequence. Otherwise every
/// row is a sequence, which the kernel can split among more of the GPU; rows that read nothing then
/// look at the pool's first position.
fn arrange(contexts: &[&Shared<Range<usize>>], rows: usize) -> Arrangement {
    let mut absent = vec![true; rows];
    let mut readers = 0;
    for &row in contexts.iter().flat_map(|context| &context.rows) {
        absent[row] = false;
        readers += 1;
    }
    let longest = contexts.iter().map(|context| context.len).max();
    let mut arrangement = Arrangement {
        cu_q: (0..=rows as i32).collect(),
        cu_k: vec![0; rows + 1],
        used_k: vec![1; rows],
        gather: (0..rows as i64).collect(),
        scatter: (0..rows as i64).collect(),
        absent,
        shape: longest.map(|longest| PartShape {
            together: None,
            width: width_bucket(longest),
        }),
    };
    let a = &mut arrangement;
    if readers == contexts.len() {
        for context in contexts {
            for &row in &context.rows {
                a.cu_k[row] = context.kept.start as i32;
                a.used_k[row] = context.len as i32;
            }
        }
        return arrangement;
    }
    a.cu_q.fill(readers as i32);
    a.gather.clear();
    for (i, context) in contexts.iter().enumerate() {
        a.cu_q[i] = a.gather.len() as i32;
        a.cu_k[i] = context.kept.start as i32;
        a.used_k[i] = context.len as i32;
        for &row in &context.rows {
            a.scatter[row] = a.gather.len() as i64;
            a.gather.push(row as i64);
        }
    }
    // Rows that read nothing come behind, in their order: so the first of any number of rows are
    // rows below that number. They take the first reader's result, which counts for nothing.
    for (row, _) in a.absent.iter().enumerate().filter(|(_, absent)| **absent) {
        a.scatter[row] = 0;
        a.gather.push(row as i64);
    }
    if let Some(shape) = &mut a.shape {
        shape.together = Some(contexts.len().next_power_of_two().min(rows) as i64);
    }
    arrangement
}

impl Part {
    /// For at most `rows` rows; nobody reads anything.
    pub(super) fn new(rows: usize, device: Device) -> Result<Self> {
        let zeros = |n: usize, kind| Tensor::f_zeros([n as i64], (kind, device));
        Ok(Self {
            cu_q: zeros(rows + 1, Kind::Int)?,
            cu_k: zeros(rows + 1, Kind::Int)?,
            used_k: zeros(rows, Kind::Int)?,
            gather: zeros(rows, Kind::Int64)?,
            scatter: zeros(rows, Kind::Int64)?,
            absent: zeros(rows, Kind::Bool)?,
            shape: None,
        })
    }

    /// Writes down who reads what, as for [`arrange`]. `groups` query heads share a kv head.
    pub(super) fn set(&mut self, contexts: &[&Shared<Range<usize>>], groups: i64) -> Result<()> {
        let mut a = arrange(contexts, self.absent.numel());
        if a.shape.is_some_and(|shape| shape.together.is_some()) {
            // Heads that share a kv head are queries of one sequence as well.
            a.cu_q.iter_mut().for_each(|q| *q *= groups as i32);
        }
        self.shape = a.shape;
        for (to, values) in [
            (&self.cu_q, &a.cu_q),
            (&self.cu_k, &a.cu_k),
            (&self.used_k, &a.used_k),
        ] {
            to.shallow_clone().f_copy_(&Tensor::f_from_slice(values)?)?;
        }
        for (to, values) in [(&self.gather, &a.gather), (&self.scatter, &a.scatter)] {
            to.shallow_clone().f_copy_(&Tensor::f_from_slice(values)?)?;
        }
        (self.absent.shallow_clone()).f_copy_(&Tensor::f_from_slice(&a.absent)?)?;
        Ok(())
    }

    /// How it is read; `None` if it is not.
    pub(super) fn shape(&self) -> Option<PartShape> {
        self.shape
    }

    /// Attention of all `b` rows, queries `[b, heads, head_dim]`, to the part's contexts in the pool's
    /// keys and values `[positions, kv_heads, head_dim]`. For rows that read nothing the logarithm of
    /// the sum is -inf.
    pub(super) fn attend(
        &self,
        kernel: VarlenKernel,
        shape: PartShape,
        q: &Tensor,
        (k, v): (&Tensor, &Tensor),
    ) -> Result<Partial> {
        let (b, heads, d) = q.size3()?;
        let kv_heads = k.size()[1];
        let groups = heads / kv_heads;
        let partial = match shape.together {
            None => apart(
                kernel,
                q,
                (k, v),
                (&self.cu_q, &self.cu_k, &self.used_k),
                shape.width,
            )?,
            Some(n) => {
                let gather = self.gather.f_narrow(0, 0, b)?;
                let scatter = self.scatter.f_narrow(0, 0, b)?;
                // [b, kv_heads, groups, d] to queries of a row one behind the other.
                let together = (q.f_reshape([b, kv_heads, groups, d])?)
                    .f_index_select(0, &gather)?
                    .f_transpose(1, 2)?
                    .f_reshape([b * groups, kv_heads, d])?;
                let (out, log_sum) = kernel(&Varlen {
                    q: &together,
                    k,
                    v,
                    cu_q: &self.cu_q.f_narrow(0, 0, n + 1)?,
                    cu_k: &self.cu_k.f_narrow(0, 0, n + 1)?,
                    used_k: &self.used_k.f_narrow(0, 0, n)?,
                    max_q: b * groups,
                    max_k: shape.width,
                })?;
                let out = (out.f_view([b, groups, kv_heads, d])?)
                    .f_transpose(1, 2)?
                    .f_index_select(0, &scatter)?;
                let log_sum = (log_sum.f_view([kv_heads, b, groups])?)
                    .f_transpose(0, 1)?
                    .f_index_select(0, &scatter)?;
                Partial {
                    out: out.f_reshape([b, heads, d])?.f_to_kind(Kind::Float)?,
                    log_sum: log_sum.f_reshape([b, heads, 1])?,
                }
            }
        };
        let absent = self.absent.f_narrow(0, 0, b)?.f_view([b, 1, 1])?;
        Ok(Partial {
            log_sum: (partial.log_sum).f_masked_fill(&absent, f64::NEG_INFINITY)?,
            ..partial
        })
    }
}

/// Attention in which every row is a sequence of one query: `q` is `[b, heads, head_dim]`, the
/// sequences are those of [`Varlen`], of which the first `b` count.
pub(super) fn apart(
    kernel: VarlenKernel,
    q: &Tensor,
    (k, v): (&Tensor, &Tensor),
    (cu_q, cu_k, used_k): (&Tensor, &Tensor, &Tensor),
    max_k: i64,
) -> Result<Partial> {
    let b = q.size()[0];
    let (out, log_sum) = kernel(&Varlen {
        q,
        k,
        v,
        cu_q: &cu_q.f_narrow(0, 0, b + 1)?,
        cu_k: &cu_k.f_narrow(0, 0, b + 1)?,
        used_k: &used_k.f_narrow(0, 0, b)?,
        max_q: 1,
        max_k,
    })?;
    Ok(Partial {
        out: out.f_to_kind(Kind::Float)?,
        log_sum: log_sum.f_transpose(0, 1)?.f_unsqueeze(2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(at: Range<usize>, rows: &[usize]) -> Shared<Range<usize>> {
        Shared {
            start: 0,
            len: at.len(),
            kept: at,
            rows: rows.to_vec(),
        }
    }

    #[test]
    fn rows_that_share_nothing_read_for_themselves() {
        let (a, b) = (read(40..47, &[0]), read(0..300, &[2]));
        let expected = Arrangement {
            cu_q: vec![0, 1, 2, 3, 4],
            cu_k: vec![40, 0, 0, 0, 0],
            used_k: vec![7, 1, 300, 1],
            gather: vec![0, 1, 2, 3],
            scatter: vec![0, 1, 2, 3],
            absent: vec![false, true, false, true],
            shape: Some(PartShape {
                together: None,
                width: 512,
            }),
        };
        assert_eq!(arrange(&[&a, &b], 4), expected);
    }

    #[test]
    fn rows_that_share_a_context_stand_together() {
        let (a, b) = (read(40..47, &[1, 3]), read(0..30, &[2]));
        let expected = Arrangement {
            cu_q: vec![0, 2, 3, 3, 3, 3, 3],
            cu_k: vec![40, 0, 0, 0, 0, 0, 0],
            used_k: vec![7, 30, 1, 1, 1, 1],
            gather: vec![1, 3, 2, 0, 4, 5],
            scatter: vec![0, 0, 2, 1, 0, 0],
            absent: vec![true, false, false, false, true, true],
            shape: Some(PartShape {
                together: Some(2),
                width: 128,
            }),
        };
        assert_eq!(arrange(&[&a, &b], 6), expected);
        assert_eq!(arrange(&[], 3).shape, None);
    }
}
