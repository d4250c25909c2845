//! Who reads which context: the rows at work, for every form of decoding.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use g2rpo_rollout::{Request, TokenId};
use tch::{Device, Tensor};

use crate::error::Result;

/// What requests share: every distinct prompt, and every distinct guidance behind a prompt, is one context.
#[derive(Debug)]
pub(super) struct Sharing<'a> {
    pub(super) prompts: Vec<&'a [TokenId]>,
    /// Each behind the prompt of this number.
    pub(super) guidance: Vec<(usize, &'a [TokenId])>,
    /// Per request its contexts in the order of positions, counted through prompts and then guidance.
    pub(super) reads: Vec<Vec<usize>>,
}

/// Rows that join, and the contexts that they bring.
#[derive(Debug, Clone)]
pub(super) struct Joining {
    /// Where each context was computed, prompts before guidance, and where it starts in the sequences of its readers.
    pub(super) contexts: Vec<(Range<usize>, usize)>,
    /// Per row its contexts, in the order of positions.
    pub(super) reads: Vec<Vec<usize>>,
}

/// The rows at work and the contexts that they read, of which a form of decoding keeps `C`.
///
/// A context is given up with the last row that reads it. The others stay in the order in which they came, those that
/// came together one behind the other, prompts before guidance.
#[derive(Debug)]
pub(super) struct Readers<C> {
    pub(super) rows: Vec<Reader>,
    pub(super) contexts: Vec<Shared<C>>,
}

/// A row at work.
#[derive(Debug)]
pub(super) struct Reader {
    /// Its contexts in the order of positions, and the how-manieth of each one's readers it is.
    pub(super) reads: Vec<(usize, usize)>,
    /// Positions of all its contexts.
    behind: usize,
    /// Own positions so far.
    pub(super) own: usize,
}

/// A context and the rows that read it.
#[derive(Debug)]
pub(super) struct Shared<C> {
    pub(super) kept: C,
    /// Where it starts in the sequences of its readers.
    pub(super) start: usize,
    pub(super) len: usize,
    /// In ascending order.
    pub(super) rows: Vec<usize>,
}

/// The rows that are left when some are gone: row `i` is what row `order[i]` was. A row that moved has the place of
/// one that is gone.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) order: Vec<usize>,
}

/// How many of a row's own `n` positions a layer needs: as many as its window reaches, the newest included.
pub(super) fn own_reach(n: usize, window: Option<usize>) -> usize {
    n.min(window.unwrap_or(n))
}

/// How many of a context's `n` positions a layer needs: the first position behind it sees itself as well.
pub(super) fn context_reach(n: usize, window: Option<usize>) -> usize {
    window.map_or(n, |window| n.min(window.saturating_sub(1)))
}

impl<'a> Sharing<'a> {
    pub(super) fn of(requests: impl IntoIterator<Item = &'a Request>) -> Self {
        let mut prompts = Distinct::default();
        let mut guidance = Distinct::default();
        let places: Vec<(usize, Option<usize>)> = (requests.into_iter())
            .map(|request| {
                let prompt = prompts.place(&request.prompt[..]);
                let guided = !request.guidance.is_empty();
                let guided = guided.then(|| guidance.place((prompt, &request.guidance[..])));
                (prompt, guided)
            })
            .collect();
        let n = prompts.items.len();
        let reads = places.into_iter().map(|(prompt, guided)| {
            let guided = guided.map(|i| n + i);
            [prompt].into_iter().chain(guided).collect()
        });
        Self {
            reads: reads.collect(),
            prompts: prompts.items,
            guidance: guidance.items,
        }
    }

    /// The length of every context.
    pub(super) fn lens(&self) -> impl Iterator<Item = usize> {
        let prompts = self.prompts.iter().map(|ids| ids.len());
        prompts.chain(self.guidance.iter().map(|(_, ids)| ids.len()))
    }
}

impl<C> Readers<C> {
    /// No rows, and room for so many.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
            contexts: Vec::new(),
        }
    }

    /// Adds rows behind those there are; `kept` is of each of their contexts.
    pub(super) fn add(&mut self, joining: &Joining, kept: Vec<C>) {
        let first = self.contexts.len();
        for (kept, (at, start)) in kept.into_iter().zip(&joining.contexts) {
            self.contexts.push(Shared {
                kept,
                start: *start,
                len: at.len(),
                rows: Vec::new(),
            });
        }
        for reads in &joining.reads {
            self.rows.push(Reader {
                reads: reads.iter().map(|context| (first + context, 0)).collect(),
                behind: reads.iter().map(|&i| joining.contexts[i].0.len()).sum(),
                own: 0,
            });
        }
        self.number();
    }

    /// Drops rows, given in ascending order: from behind, each is overwritten by the last row there is then, as by
    /// [`Vec::swap_remove`].
    pub(super) fn remove(&mut self, gone: &[usize]) -> Left {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        for &row in gone.iter().rev() {
            order.swap_remove(row);
            self.rows.swap_remove(row);
        }
        self.number();
        Left { order }
    }

    /// Every row has one more position.
    pub(super) fn step(&mut self) {
        self.rows.iter_mut().for_each(|row| row.own += 1);
    }

    /// Writes down by context who reads it, and gives up those that nobody does.
    fn number(&mut self) {
        self.contexts.iter_mut().for_each(|c| c.rows.clear());
        for (row, reader) in self.rows.iter_mut().enumerate() {
            for (context, place) in &mut reader.reads {
                let rows = &mut self.contexts[*context].rows;
                *place = rows.len();
                rows.push(row);
            }
        }
        let mut live = 0;
        let numbers: Vec<usize> = (self.contexts.iter())
            .map(|context| {
                live += usize::from(!context.rows.is_empty());
                live.saturating_sub(1)
            })
            .collect();
        self.contexts.retain(|context| !context.rows.is_empty());
        for (context, _) in self.rows.iter_mut().flat_map(|row| &mut row.reads) {
            *context = numbers[*context];
        }
    }
}

impl Reader {
    /// The position that it is to compute next, counted from the start of its contexts.
    pub(super) fn position(&self) -> usize {
        self.behind + self.own
    }
}

impl<C> Shared<C> {
    /// Whether it is a prompt, and not guidance, which stands behind one.
    pub(super) fn is_prompt(&self) -> bool {
        self.start == 0
    }
}

impl Left {
    /// The rows that moved, from where and to where. None goes to where another comes from.
    pub(super) fn moves(&self) -> impl Iterator<Item = (usize, usize)> {
        let order = self.order.iter().copied().enumerate();
        order
            .filter(|(to, from)| to != from)
            .map(|(to, from)| (from, to))
    }

    /// Moves them in tensors `[rows, ..]` on the device, in place.
    pub(super) fn apply(
        &self,
        device: Device,
        tensors: impl IntoIterator<Item = Result<Tensor>>,
    ) -> Result<()> {
        let (from, to): (Vec<usize>, Vec<usize>) = self.moves().unzip();
        if from.is_empty() {
            return Ok(());
        }
        let (from, to) = (upload(&from, device)?, upload(&to, device)?);
        for tensor in tensors {
            let mut tensor = tensor?;
            let moved = tensor.f_index_select(0, &from)?;
            let _ = tensor.f_index_copy_(0, &to, &moved)?;
        }
        Ok(())
    }
}

/// Places, as libtorch takes them.
pub(super) fn upload(places: &[usize], device: Device) -> Result<Tensor> {
    let places: Vec<i64> = places.iter().map(|&place| place as i64).collect();
    Ok(Tensor::f_from_slice(&places)?.f_to_device(device)?)
}

/// Items in the order in which they first came.
#[derive(Default)]
struct Distinct<T> {
    items: Vec<T>,
    index: HashMap<T, usize>,
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    fn place(&mut self, item: T) -> usize {
        *self.index.entry(item).or_insert_with(|| {
            self.items.push(item);
            self.items.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_rollout::RolloutKey;
    use tch::Kind;

    #[test]
    fn every_distinct_prompt_and_guidance_behind_it_is_one_context() {
        let request = |prompt: &[TokenId], guidance: &[TokenId]| Request {
            prompt: prompt.to_vec(),
            guidance: guidance.to_vec(),
            key: RolloutKey::default(),
            max_new_tokens: 1,
        };
        let requests = [
            request(&[1, 2], &[]),
            request(&[1, 2], &[5]),
            request(&[3], &[5]),
            request(&[1, 2], &[5]),
            request(&[3], &[5, 6]),
        ];
        let sharing = Sharing::of(&requests);
        assert_eq!(sharing.prompts, [&[1, 2][..], &[3]]);
        let guidance = [(0, &[5][..]), (1, &[5]), (1, &[5, 6])];
        assert_eq!(sharing.guidance, guidance);
        let reads = [vec![0], vec![0, 2], vec![1, 3], vec![0, 2], vec![1, 4]];
        assert_eq!(sharing.reads, reads);
        assert_eq!(sharing.lens().collect::<Vec<_>>(), [2, 1, 1, 1, 2]);
    }

    fn joining(contexts: &[(Range<usize>, usize)], reads: &[&[usize]]) -> Joining {
        Joining {
            contexts: contexts.to_vec(),
            reads: reads.iter().map(|reads| reads.to_vec()).collect(),
        }
    }

    /// What is kept of every context and who reads it.
    fn contexts(readers: &Readers<char>) -> Vec<(char, &[usize])> {
        let contexts = readers.contexts.iter();
        contexts.map(|c| (c.kept, &c.rows[..])).collect()
    }

    #[test]
    fn rows_take_their_contexts_along() {
        let mut readers = Readers::new(8);
        // Two prompts and guidance behind the second.
        let first = joining(
            &[(0..5, 0), (5..8, 0), (8..12, 3)],
            &[&[0], &[1, 2], &[0], &[1]],
        );
        readers.add(&first, vec!['a', 'b', 'c']);
        assert_eq!(
            contexts(&readers),
            [('a', &[0, 2][..]), ('b', &[1, 3]), ('c', &[1])]
        );
        assert_eq!(readers.contexts.iter().filter(|c| c.is_prompt()).count(), 2);
        readers.step();
        readers.add(&joining(&[(0..2, 0)], &[&[0], &[0]]), vec!['d']);
        let positions: Vec<usize> = readers.rows.iter().map(Reader::position).collect();
        assert_eq!(positions, [6, 8, 6, 4, 2, 2]);
        // The last two rows take the places of these; nobody reads the first prompt any more.
        let left = readers.remove(&[0, 2]);
        assert_eq!(left.order, [4, 1, 5, 3]);
        assert_eq!(left.moves().collect::<Vec<_>>(), [(4, 0), (5, 2)]);
        assert_eq!(
            contexts(&readers),
            [('b', &[1, 3][..]), ('c', &[1]), ('d', &[0, 2])]
        );
        assert_eq!(readers.rows[1].reads, [(0, 0), (1, 0)]);
        assert_eq!(readers.rows[2].reads, [(2, 1)]);
        let positions: Vec<usize> = readers.rows.iter().map(Reader::position).collect();
        assert_eq!(positions, [2, 8, 2, 4]);
        readers.remove(&[0, 1, 2, 3]);
        assert!(readers.rows.is_empty() && readers.contexts.is_empty());
    }

    #[test]
    fn rows_of_tensors_move_with_them() {
        let mut readers = Readers::new(4);
        readers.add(&joining(&[(0..1, 0)], &[&[0], &[0], &[0], &[0]]), vec!['a']);
        let rows = Tensor::arange(8, (Kind::Float, Device::Cpu)).view([4, 2]);
        // The last row goes first, so it does not come here.
        let left = readers.remove(&[1, 3]);
        (left.apply(Device::Cpu, [Ok(rows.shallow_clone())])).unwrap();
        let kept = Vec::<f32>::try_from(rows.narrow(0, 0, 2).reshape(-1)).unwrap();
        assert_eq!(kept, [0., 1., 4., 5.]);
    }

    #[test]
    fn a_window_of_three_reaches_two_positions_of_a_context() {
        let reach = |n, window| (own_reach(n, window), context_reach(n, window));
        assert_eq!(reach(9, Some(3)), (3, 2));
        assert_eq!(reach(1, Some(3)), (1, 1));
        assert_eq!(reach(9, None), (9, 9));
        assert_eq!(reach(9, Some(1)), (1, 0));
    }
}
