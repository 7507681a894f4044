//! From a plan to the contractions that carry it out.

use super::Network;
use super::axes::{Axes, Set, Vectors};
use super::panels::Panels;
use super::plan::{Indices, Merge, Plan};
use super::step::{Contraction, Form, Step};

/// The labels and contractions of a plan's merged tensors.
pub(super) struct Builder<'a> {
    pub(super) network: &'a Network,
    pub(super) indices: Indices,
    pub(super) vectors: Vectors,
    /// Labels and cores of every tensor.
    pub(super) tensors: Vec<(Vec<usize>, Set)>,
    pub(super) merges: Vec<Contraction>,
}

impl<'a> Builder<'a> {
    fn size(&self) -> impl Fn(usize) -> usize + use<'a> {
        let network = self.network;
        move |label| network.labels()[label].size
    }

    /// The number of a merged tensor.
    fn tensor(&mut self, merge: &Merge) -> usize {
        let (left, right) = match merge {
            Merge::Core(core) => return *core,
            Merge::Pair(left, right) => (self.tensor(left), self.tensor(right)),
        };
        // The longer run of columns to the right.
        let alone = |a: usize, b: usize| -> usize {
            let other = &self.tensors[b].0;
            self.tensors[a].0.iter().filter(|label| !other.contains(label)).map(|l| self.size()(*l)).product()
        };
        let (left, right) =
            if alone(left, right) > alone(right, left) { (right, left) } else { (left, right) };
        let cores = self.tensors[left].1 | self.tensors[right].1;
        let out = self.indices.of_cores(cores);
        let (from, to) = (&self.tensors[left].0, &self.tensors[right].0);
        let axes = Axes { left: from, right: to, out, next: 0, size: &self.size() };
        let step = Panels::step(&axes, self.vectors, false).map(Form::Panels);
        self.tensors.push((step.labels.clone(), cores));
        self.merges.push(Contraction { left, right, step });
        self.tensors.len() - 1
    }

    /// The steps of a row, how many of them are sliced into how many parts, and the labels of the last tensor.
    pub(super) fn steps(&mut self, plan: &Plan) -> (Vec<Contraction>, (usize, usize), Vec<usize>) {
        let rights: Vec<usize> = plan.steps.iter().map(|merge| self.tensor(merge)).collect();
        let shown = |label: &usize| self.network.labels()[*label].size > 1;
        let mut labels: Vec<usize> = self.network.inputs().iter().copied().filter(shown).collect();
        // The first mode is slowest in the row and in every result that still has it.
        let slice = labels.first().copied();
        let without = |right: &&usize| slice.is_some_and(|label| !self.tensors[**right].0.contains(&label));
        let sliced = rights.iter().take_while(without).count();
        let sliced = if sliced < 2 { 0 } else { sliced };
        let slices = slice.filter(|_| sliced > 0).map_or(1, |label| self.size()(label));
        if sliced > 0 {
            labels.remove(0);
        }
        let (mut cores, mut steps) = (0, Vec::new());
        for (k, &right) in rights.iter().enumerate() {
            if sliced > 0 && k == sliced {
                labels.splice(0..0, slice);
            }
            cores |= self.tensors[right].1;
            let out = self.indices.of_row(cores);
            // What the next step sums over is fastest in this one's result.
            let next =
                rights.get(k + 1).map_or(0, |next| out & !self.indices.of_row(cores | self.tensors[*next].1));
            let axes = Axes { left: &labels, right: &self.tensors[right].0, out, next, size: &self.size() };
            let step = Step::new(&axes, self.vectors, k == 0);
            labels.clone_from(&step.labels);
            steps.push(Contraction { left: k, right, step });
        }
        (steps, (sliced, slices), labels)
    }
}

/// For each output in natural order its place in a tensor of these labels.
pub(super) fn order(network: &Network, labels: &[usize]) -> Vec<u32> {
    let size = |label: usize| network.labels()[label].size;
    let mut places = vec![0];
    for &output in network.outputs() {
        let after = labels
            .iter()
            .position(|label| *label == output)
            .map_or(0, |at| labels[at + 1..].iter().map(|label| size(*label)).product::<usize>());
        places = places.iter().flat_map(|p| (0..size(output)).map(move |j| p + (j * after) as u32)).collect();
    }
    places
}
