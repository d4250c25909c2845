//! Which completions are judged together.

use std::collections::HashMap;

use super::estimator::Strata;
use crate::error::{Result, check_len};

/// Members of a stratum and of the part its baseline is taken from.
pub(super) struct Stratum {
    pub(super) members: Vec<usize>,
    pub(super) reference: Vec<usize>,
}

/// Rows by group, in order of first appearance.
pub(super) struct Grouping<'a> {
    pub(super) ids: Vec<usize>,
    pub(super) rows: Vec<Vec<usize>>,
    guided: &'a [bool],
}

impl<'a> Grouping<'a> {
    pub(super) fn new(n: usize, groups: &[usize], guided: &'a [bool]) -> Result<Self> {
        check_len("groups", groups.len(), n)?;
        if !guided.is_empty() {
            check_len("guided", guided.len(), n)?;
        }
        let mut place = HashMap::new();
        let (mut ids, mut rows) = (Vec::new(), Vec::<Vec<usize>>::new());
        for (row, &id) in groups.iter().enumerate() {
            let index = *place.entry(id).or_insert_with(|| {
                ids.push(id);
                rows.push(Vec::new());
                ids.len() - 1
            });
            rows[index].push(row);
        }
        Ok(Self { ids, rows, guided })
    }

    pub(super) fn is_guided(&self, row: usize) -> bool {
        self.guided.get(row).copied().unwrap_or(false)
    }

    pub(super) fn strata(&self, strata: Strata) -> Vec<Stratum> {
        let joint = |rows: &Vec<usize>| Stratum {
            members: rows.clone(),
            reference: rows.clone(),
        };
        match strata {
            Strata::Joint => self.rows.iter().map(joint).collect(),
            Strata::Split => (self.rows.iter())
                .flat_map(|rows| {
                    let (guided, unguided): (Vec<_>, Vec<_>) =
                        rows.iter().partition(|&&row| self.is_guided(row));
                    [joint(&guided), joint(&unguided)]
                })
                .collect(),
            Strata::UnguidedMean => (self.rows.iter())
                .map(|rows| Stratum {
                    members: rows.clone(),
                    reference: (rows.iter().copied())
                        .filter(|&row| !self.is_guided(row))
                        .collect(),
                })
                .collect(),
        }
    }
}
