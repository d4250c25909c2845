//! Micro-batches: which rows are computed together, and how they are padded.

use g2rpo_core::Sequences;
use tch::{Device, TchError, Tensor};

use crate::error::{Doing, Error, Result};

/// Rows of a batch that are computed together.
#[derive(Debug, PartialEq)]
pub(crate) struct MicroBatch {
    /// Indices into the batch, longest first.
    pub(crate) rows: Vec<usize>,
    /// Positions of the longest row: the width all are padded to.
    pub(crate) width: usize,
}

/// A micro-batch on the device.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// Ids, int64, `[B, T]`, padded on the right. The last token of a row is not among them: no
    /// token follows it that would need a prediction.
    pub(crate) ids_bt: Tensor,
    /// Where in `B · T` the prediction of every completion token is made, int64, `[N]`.
    pub(crate) position_n: Tensor,
    /// The completion tokens, int64, `[N]`, row after row.
    pub(crate) target_n: Tensor,
}

/// Distributes rows over micro-batches of at most `budget` positions, padding included; a row that
/// is longer has a micro-batch to itself. Rows of similar length share one, so that little is
/// padding. Rows without completion tokens need no computation and come first, in one micro-batch
/// of width 0.
///
/// The result depends on the lengths alone.
pub(crate) fn plan(sequences: &Sequences, budget: usize) -> Vec<MicroBatch> {
    let widths: Vec<usize> = sequences.tokens().lengths().map(|len| len - 1).collect();
    let (mut rows, empty): (Vec<usize>, Vec<usize>) = (0..sequences.n_rows())
        .partition(|&i| sequences.tokens().row(i).len() > sequences.prompt_lens()[i]);
    rows.sort_by_key(|&i| std::cmp::Reverse(widths[i]));
    let mut batches = Vec::new();
    if !empty.is_empty() {
        batches.push(MicroBatch {
            rows: empty,
            width: 0,
        });
    }
    while let Some(&longest) = rows.first() {
        let width = widths[longest];
        let rest = rows.split_off((budget / width).clamp(1, rows.len()));
        batches.push(MicroBatch { rows, width });
        rows = rest;
    }
    batches
}

impl MicroBatch {
    /// Builds the tensors.
    pub(crate) fn inputs(
        &self,
        sequences: &Sequences,
        vocab: usize,
        device: Device,
    ) -> Result<Inputs> {
        let mut ids = vec![0i64; self.rows.len() * self.width];
        let mut positions = Vec::new();
        let mut targets = Vec::new();
        for (at, &row) in self.rows.iter().enumerate() {
            let tokens = sequences.tokens().row(row);
            if let Some(position) = tokens.iter().position(|&id| id as usize >= vocab) {
                return Err(Error::invalid(
                    "sequences",
                    format!(
                        "row {row}, token {position} is id {}, but the vocabulary has {vocab} ids",
                        tokens[position]
                    ),
                ));
            }
            let start = at * self.width;
            for (slot, &id) in ids[start..].iter_mut().zip(&tokens[..tokens.len() - 1]) {
                *slot = i64::from(id);
            }
            let prompt = sequences.prompt_lens()[row];
            positions.extend((prompt..tokens.len()).map(|t| (start + t - 1) as i64));
            targets.extend(tokens[prompt..].iter().map(|&id| i64::from(id)));
        }
        let upload = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        (|| {
            let shape = [self.rows.len() as i64, self.width as i64];
            Ok::<_, TchError>(Inputs {
                ids_bt: upload(&ids)?.f_view(shape)?,
                position_n: upload(&positions)?,
                target_n: upload(&targets)?,
            })
        })()
        .doing(|| "copying token ids to the device".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;
    use g2rpo_core::Ragged;
    use proptest::prelude::*;

    fn sequences(lengths: &[(usize, usize)]) -> Sequences {
        let tokens = Ragged::from_rows(lengths.iter().map(|&(p, c)| 0..(p + c) as u32));
        Sequences::new(tokens, lengths.iter().map(|&(p, _)| p).collect()).unwrap()
    }

    #[test]
    fn rows_of_similar_length_share_a_micro_batch() {
        // Widths are one less than lengths: 9, 2, 8, 3; row 4 has no completion.
        let s = sequences(&[(2, 8), (1, 2), (3, 6), (2, 2), (5, 0)]);
        let batch = |rows: &[usize], width| MicroBatch {
            rows: rows.to_vec(),
            width,
        };
        assert_eq!(
            plan(&s, 20),
            [batch(&[4], 0), batch(&[0, 2], 9), batch(&[3, 1], 3)]
        );
        assert_eq!(plan(&s, 1).len(), 5);
    }

    #[test]
    fn predictions_are_made_one_position_before_their_token() {
        let s = sequences(&[(2, 2), (1, 1)]);
        let batch = &plan(&s, 100)[0];
        let inputs = batch.inputs(&s, 10, Device::Cpu).unwrap();
        // Row 0 is 0 1 | 2 3 and row 1 is 0 | 1; the width is 3.
        let values = |t: &Tensor| Vec::<i64>::try_from(t.view(-1)).unwrap();
        assert_eq!(values(&inputs.ids_bt), [0, 1, 2, 0, 0, 0]);
        assert_eq!(values(&inputs.position_n), [1, 2, 3]);
        assert_eq!(values(&inputs.target_n), [2, 3, 1]);
    }

    #[test]
    fn an_id_outside_the_vocabulary_is_refused() {
        let s = sequences(&[(2, 2)]);
        let expected = "sequences: row 0, token 3 is id 3, but the vocabulary has 3 ids";
        says(plan(&s, 100)[0].inputs(&s, 3, Device::Cpu), expected);
    }

    proptest! {
        #[test]
        fn every_row_is_computed_once_within_the_budget(
            lengths in prop::collection::vec((1usize..20, 0usize..20), 0..30),
            budget in 1usize..100,
        ) {
            let s = sequences(&lengths);
            let batches = plan(&s, budget);
            let mut rows: Vec<usize> = batches.iter().flat_map(|b| b.rows.clone()).collect();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            for b in &batches {
                prop_assert!(b.rows.len() == 1 || b.rows.len() * b.width <= budget);
            }
        }
    }
}
