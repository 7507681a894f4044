//! The score of test clips: accuracy, or mean average precision.
//!
//! MAP is the macro average of the released Hollywood2 script: a class without a positive test clip counts zero.
//! A class that merely loses its positives in a replicate is left out of that replicate.

use super::moments::mean;

/// Average precision as scikit-learn's `average_precision_score`: the sum over distinct score thresholds of
/// recall gained times precision; none when no clip with a positive weight is positive.
/// `weight[unit]` counts how often the clips of a unit are in the sample.
fn weighted_average_precision(ranking: &Ranking, weight: &[u32]) -> Option<f64> {
    let positives: u64 =
        ranking.order.iter().filter(|(_, positive, _)| *positive).map(|(u, ..)| u64::from(weight[*u])).sum();
    if positives == 0 {
        return None;
    }
    let (mut hits, mut seen, mut hits_before, mut sum) = (0u64, 0u64, 0u64, 0.0);
    for &(unit, positive, tied) in &ranking.order {
        let w = u64::from(weight[unit]);
        seen += w;
        hits += if positive { w } else { 0 };
        if !tied && hits > hits_before {
            sum += (hits - hits_before) as f64 / positives as f64 * (hits as f64 / seen as f64);
            hits_before = hits;
        }
    }
    Some(sum)
}

/// Average precision of one class over clips with scores and truths (scikit-learn's definition); none when
/// no clip is positive.
pub fn average_precision(score: &[f64], positive: &[bool]) -> Option<f64> {
    weighted_average_precision(&Ranking::new(score, positive), &vec![1; score.len()])
}

/// Clips by falling score: unit, truth, and whether the next one has the same score.
#[derive(Debug, Clone)]
struct Ranking {
    order: Vec<(usize, bool, bool)>,
}

impl Ranking {
    fn new(score: &[f64], positive: &[bool]) -> Self {
        let mut index: Vec<usize> = (0..score.len()).collect();
        index.sort_by(|&a, &b| score[b].total_cmp(&score[a]).then(a.cmp(&b)));
        let tied = |i: usize| index.get(i + 1).is_some_and(|&next| score[next] == score[index[i]]);
        Self { order: (0..index.len()).map(|i| (index[i], positive[index[i]], tied(i))).collect() }
    }
}

/// The test clips of one cell, reduced to what a metric needs. Clips are counted by unit: each is one of its own
/// until `merged` joins them.
#[derive(Debug, Clone)]
pub struct Outcomes {
    clips: usize,
    units: usize,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Right clips and all clips of each unit.
    Accuracy(Vec<(u32, u32)>),
    /// The clips' units by falling score, for each class.
    Map(Vec<Ranking>),
}

impl Outcomes {
    /// Accuracy: whether each test clip was classified correctly.
    pub fn accuracy(correct: Vec<bool>) -> Self {
        let tallies: Vec<(u32, u32)> = correct.into_iter().map(|right| (u32::from(right), 1)).collect();
        Self { clips: tallies.len(), units: tallies.len(), kind: Kind::Accuracy(tallies) }
    }

    /// Mean average precision over `classes` classes: `scores` `[clips][K]`, `labels` one list of classes a clip.
    pub fn map(scores: &[Vec<f64>], labels: &[Vec<usize>], classes: usize) -> Self {
        let of_class = |class: usize| {
            let score: Vec<f64> = scores.iter().map(|row| row[class]).collect();
            let positive: Vec<bool> = labels.iter().map(|l| l.contains(&class)).collect();
            Ranking::new(&score, &positive)
        };
        let kind = Kind::Map((0..classes).map(of_class).collect());
        Self { clips: scores.len(), units: scores.len(), kind }
    }

    /// The same clips in `units` units; `unit` says which one each clip belongs to.
    pub(super) fn merged(&self, unit: &[usize], units: usize) -> Self {
        let kind = match &self.kind {
            Kind::Accuracy(tallies) => {
                let mut merged = vec![(0, 0); units];
                for (unit, (right, clips)) in unit.iter().zip(tallies) {
                    merged[*unit].0 += right;
                    merged[*unit].1 += clips;
                }
                Kind::Accuracy(merged)
            }
            Kind::Map(classes) => {
                let merged = |r: &Ranking| Ranking {
                    order: r.order.iter().map(|&(c, p, t)| (unit[c], p, t)).collect(),
                };
                Kind::Map(classes.iter().map(merged).collect())
            }
        };
        Self { clips: self.clips, units, kind }
    }

    /// Whether the score is a mean average precision.
    pub(super) fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    /// Number of test clips.
    pub fn len(&self) -> usize {
        self.clips
    }

    /// Whether there is no test clip.
    pub fn is_empty(&self) -> bool {
        self.clips == 0
    }

    /// The score of the clips as they are; none without clips.
    pub fn score(&self) -> Option<f64> {
        self.weighted_score(&vec![1; self.units])
    }

    /// The score where the clips of unit i are there `weight[i]` times.
    pub(super) fn weighted_score(&self, weight: &[u32]) -> Option<f64> {
        match &self.kind {
            Kind::Accuracy(tallies) => {
                let (mut right, mut all) = (0, 0);
                for ((r, clips), w) in tallies.iter().zip(weight) {
                    right += u64::from(r * w);
                    all += u64::from(clips * w);
                }
                (all > 0).then(|| right as f64 / all as f64)
            }
            Kind::Map(classes) => {
                let scores: Vec<f64> = classes
                    .iter()
                    .filter_map(|r| {
                        let never_positive = r.order.iter().all(|(_, positive, _)| !positive);
                        if never_positive { Some(0.0) } else { weighted_average_precision(r, weight) }
                    })
                    .collect();
                mean(&scores)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of scikit-learn's `average_precision_score`, by `tests/golden/average_precision.py`: few and many clips,
    /// with and without ties.
    #[test]
    fn average_precision_equals_scikit_learn() {
        let golden = include_bytes!("../../tests/golden/average_precision.csv");
        let rows: Vec<(String, String, f64)> =
            csv::Reader::from_reader(&golden[..]).deserialize().collect::<Result<_, _>>().unwrap();
        assert_eq!(rows.len(), 17);
        for (scores, truths, expected) in rows {
            let scores: Vec<f64> = scores.split(';').map(|s| s.parse().unwrap()).collect();
            let truths: Vec<bool> = truths.split(';').map(|t| t == "1").collect();
            let found = average_precision(&scores, &truths).unwrap();
            // One rounding per threshold and a few per term.
            let bound = 4.0 * f64::EPSILON * scores.len() as f64;
            assert!((found - expected).abs() <= bound, "{found} {expected}");
        }
        assert_eq!(average_precision(&[0.3, 0.2], &[false, false]), None);
    }

    #[test]
    fn weights_act_as_repetition() {
        let (score, truth) = ([0.9, 0.4, 0.6, 0.1], [true, false, false, true]);
        let weight = [2, 0, 1, 3];
        let repeat =
            |i: usize| std::iter::repeat_n((score[i], truth[i]), weight[i] as usize).collect::<Vec<_>>();
        let (s, t): (Vec<f64>, Vec<bool>) = (0..4).flat_map(repeat).unzip();
        let got = weighted_average_precision(&Ranking::new(&score, &truth), &weight).unwrap();
        assert!((got - average_precision(&s, &t).unwrap()).abs() < 1e-12);
    }

    #[test]
    fn a_unit_is_all_its_clips() {
        let scores = [[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9]].map(|row| row.to_vec());
        let labels = [vec![0], vec![0], vec![1], vec![1]];
        let map = Outcomes::map(&scores, &labels, 2);
        let accuracy = Outcomes::accuracy(vec![true, false, false, true]);
        for outcomes in [&map, &accuracy] {
            let merged = outcomes.merged(&[1, 0, 1, 0], 2);
            assert_eq!(merged.score(), outcomes.score());
            assert_eq!(merged.weighted_score(&[3, 2]), outcomes.weighted_score(&[2, 3, 2, 3]));
            assert_eq!((merged.len(), merged.is_empty()), (4, false));
        }
    }

    #[test]
    fn map_counts_a_class_without_positives_as_zero() {
        let scores = [vec![0.9, 0.1, 0.1], vec![0.8, 0.8, 0.8], vec![0.1, 0.9, 0.9]];
        let score = Outcomes::map(&scores, &[vec![0, 1], vec![], vec![]], 3).score().unwrap();
        assert!((score - (1.0 + 1.0 / 3.0) / 3.0).abs() < 1e-12, "{score}");
    }
}
