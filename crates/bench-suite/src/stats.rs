//! Statistics of the tables: mean ± std over folds, bootstrap intervals, paired differences.
//!
//! # Method
//! - A fold's score is the mean over its seeds; `mean` and `std` are taken over folds. `std` is the sample
//!   standard deviation (n − 1): the paper prints "mean ± std" without saying which, and n − 1 is the larger
//!   and the unbiased one. The population value is `std · sqrt((n − 1) / n)` (0.894 of it for five folds).
//! - The 95 % interval is a percentile bootstrap over test clips: in each replicate every fold's test clips
//!   are drawn again with replacement within that fold, the score is computed per fold and seed (all seeds see
//!   the same draw), averaged over seeds, then over folds. It tells how far the score depends on which clips
//!   happened to be tested; it does not cover the choice of training clips.
//! - MAP is the macro average of the released Hollywood2 script: a class without a positive test clip counts
//!   zero. A class that merely loses its positives in a replicate is left out of that replicate.
//! - A paired difference uses the same draw of clips for both models, fold by fold.
//! - Draws come from a named stream, so the same records give the same interval everywhere.

use sha2::{Digest, Sha256};

/// Bootstrap replicates.
pub const REPLICATES: usize = 2000;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// 2.5 % quantile.
    pub low: f64,
    /// 97.5 % quantile.
    pub high: f64,
}

/// Arithmetic mean; none for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() { None } else { Some(values.iter().sum::<f64>() / values.len() as f64) }
}

/// Sample standard deviation (n − 1); none for fewer than two values.
pub fn sample_std(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    Some((squares(values)? / (values.len() - 1) as f64).sqrt())
}

/// Population standard deviation (n); none for no values.
pub fn population_std(values: &[f64]) -> Option<f64> {
    Some((squares(values)? / values.len() as f64).sqrt())
}

fn squares(values: &[f64]) -> Option<f64> {
    let m = mean(values)?;
    Some(values.iter().map(|v| (v - m) * (v - m)).sum())
}

/// Average precision as scikit-learn's `average_precision_score`: the sum over distinct score thresholds of
/// recall gained times precision; none when no clip with a positive weight is positive.
/// `weight[clip]` counts how often a clip is in the sample.
fn weighted_average_precision(ranking: &Ranking, weight: &[u32]) -> Option<f64> {
    let positives: u64 =
        ranking.order.iter().filter(|(_, positive, _)| *positive).map(|(c, ..)| u64::from(weight[*c])).sum();
    if positives == 0 {
        return None;
    }
    let (mut hits, mut seen, mut hits_before, mut sum) = (0u64, 0u64, 0u64, 0.0);
    for &(clip, positive, tied) in &ranking.order {
        let w = u64::from(weight[clip]);
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

/// Clips by falling score: index, truth, and whether the next one has the same score.
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

/// The test clips of one cell, reduced to what a metric needs.
#[derive(Debug, Clone)]
pub struct Outcomes(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Accuracy(Vec<bool>),
    Map { clips: usize, classes: Vec<Ranking> },
}

impl Outcomes {
    /// Accuracy: whether each test clip was classified correctly.
    pub fn accuracy(correct: Vec<bool>) -> Self {
        Self(Kind::Accuracy(correct))
    }

    /// Mean average precision: per class `(score per clip, truth per clip)`.
    pub fn map(classes: &[(Vec<f64>, Vec<bool>)]) -> Self {
        Self(Kind::Map {
            clips: classes.first().map_or(0, |(s, _)| s.len()),
            classes: classes.iter().map(|(s, p)| Ranking::new(s, p)).collect(),
        })
    }

    /// Number of test clips.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Accuracy(correct) => correct.len(),
            Kind::Map { clips, .. } => *clips,
        }
    }

    /// Whether there is no test clip.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of the clips as they are; none without clips.
    pub fn score(&self) -> Option<f64> {
        self.weighted_score(&vec![1; self.len()])
    }

    fn weighted_score(&self, weight: &[u32]) -> Option<f64> {
        match &self.0 {
            Kind::Accuracy(correct) => {
                let hits: u64 = correct.iter().zip(weight).map(|(&c, &w)| u64::from(w) * u64::from(c)).sum();
                let all: u64 = weight.iter().map(|&w| u64::from(w)).sum();
                (all > 0).then(|| hits as f64 / all as f64)
            }
            Kind::Map { classes, .. } => {
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

/// One test fold: the outcomes of every seed, clips in the same order in each.
pub type FoldOutcomes = Vec<Outcomes>;

/// 95 % bootstrap interval of the mean over folds; none where a fold has no clips or seeds differ in length.
pub fn interval(folds: &[FoldOutcomes], purpose: &str) -> Option<Interval> {
    bootstrap(folds, None, purpose)
}

/// 95 % bootstrap interval of the mean over folds of `a − b` on the same test clips.
pub fn paired_interval(a: &[FoldOutcomes], b: &[FoldOutcomes], purpose: &str) -> Option<Interval> {
    if a.len() != b.len() {
        return None;
    }
    bootstrap(a, Some(b), purpose)
}

fn bootstrap(a: &[FoldOutcomes], b: Option<&[FoldOutcomes]>, purpose: &str) -> Option<Interval> {
    if a.is_empty() {
        return None;
    }
    let sizes: Vec<usize> = a.iter().map(|fold| fold.first().map_or(0, Outcomes::len)).collect();
    let same_clips = |folds: &[FoldOutcomes]| {
        folds.iter().zip(&sizes).all(|(fold, &n)| n > 0 && fold.iter().all(|o| o.len() == n))
    };
    if !same_clips(a) || b.is_some_and(|b| !same_clips(b) || b.iter().any(Vec::is_empty)) {
        return None;
    }
    let mut draws = Draws::new(&format!("bootstrap/{purpose}"));
    let mut replicates: Vec<f64> = (0..REPLICATES)
        .filter_map(|_| {
            let per_fold: Vec<f64> = (0..a.len())
                .filter_map(|f| {
                    let weight = draws.weights(sizes[f]);
                    let ours = fold_score(&a[f], &weight)?;
                    match b {
                        Some(b) => Some(ours - fold_score(&b[f], &weight)?),
                        None => Some(ours),
                    }
                })
                .collect();
            mean(&per_fold)
        })
        .collect();
    replicates.sort_by(f64::total_cmp);
    Some(Interval { low: quantile(&replicates, 0.025)?, high: quantile(&replicates, 0.975)? })
}

fn fold_score(seeds: &[Outcomes], weight: &[u32]) -> Option<f64> {
    let scores: Vec<f64> = seeds.iter().filter_map(|o| o.weighted_score(weight)).collect();
    mean(&scores)
}

/// Quantile of sorted values with linear interpolation; none for no values.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let at = q * (sorted.len().checked_sub(1)?) as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64))
}

/// A named random stream, SplitMix64 seeded by SHA-256 of the purpose: this schema crate links no generator, and
/// a bootstrap needs nothing better.
#[derive(Debug)]
pub struct Draws(u64);

impl Draws {
    /// The stream of that purpose.
    pub fn new(purpose: &str) -> Self {
        let digest = Sha256::digest(purpose);
        Self(digest.iter().take(8).fold(0, |state, &byte| state << 8 | u64::from(byte)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// How often each of `n` clips is drawn in `n` draws with replacement.
    fn weights(&mut self, n: usize) -> Vec<u32> {
        let mut weight = vec![0; n];
        for _ in 0..n {
            weight[self.below(n)] += 1;
        }
        weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations() {
        let v = [0.80, 0.82, 0.79, 0.83, 0.81];
        assert!((mean(&v).unwrap() - 0.81).abs() < 1e-12);
        assert!((sample_std(&v).unwrap() - 0.015_811_388_300_841_9).abs() < 1e-12);
        assert!((population_std(&v).unwrap() - 0.014_142_135_623_730_9).abs() < 1e-12);
        assert_eq!((mean(&[]), sample_std(&[0.5]), population_std(&[])), (None, None, None));
    }

    /// Values of scikit-learn's `average_precision_score`, by `tests/golden/average_precision.py`: few and many clips,
    /// with and without ties.
    #[test]
    fn average_precision_equals_scikit_learn() {
        let golden = include_bytes!("../tests/golden/average_precision.csv");
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

    fn fold(correct: usize, n: usize) -> FoldOutcomes {
        vec![Outcomes::accuracy((0..n).map(|i| i < correct).collect())]
    }

    #[test]
    fn interval_is_deterministic_and_near_the_binomial() {
        let folds: Vec<FoldOutcomes> = (0..5).map(|_| fold(64, 80)).collect();
        let a = interval(&folds, "x").unwrap();
        assert_eq!(Some(a), interval(&folds, "x"));
        assert_ne!(Some(a), interval(&folds, "y"));
        // Standard error of 400 clips at 0.8 is 0.02: the interval is about 0.8 ± 0.039.
        assert!((a.low - 0.761).abs() < 0.006 && (a.high - 0.839).abs() < 0.006, "{a:?}");
        // A sure thing has no width.
        assert_eq!(interval(&[fold(10, 10)], "x"), Some(Interval { low: 1.0, high: 1.0 }));
    }

    #[test]
    fn pairing_removes_what_both_models_share() {
        let (a, b) = (vec![fold(60, 100), fold(60, 100)], vec![fold(50, 100), fold(50, 100)]);
        let d = paired_interval(&a, &b, "d").unwrap();
        assert!(d.low > 0.04 && d.high < 0.16, "{d:?}");
        let unpaired = interval(&a, "d").unwrap();
        assert!(d.high - d.low < unpaired.high - unpaired.low);
        assert_eq!(paired_interval(&a, &a, "d"), Some(Interval { low: 0.0, high: 0.0 }));
        assert_eq!(paired_interval(&a, &b[..1], "d"), None);
        assert_eq!(paired_interval(&[fold(1, 2)], &[fold(1, 3)], "d"), None);
    }

    #[test]
    fn seeds_average_and_empty_folds_have_no_interval() {
        let two_seeds = vec![vec![Outcomes::accuracy(vec![true; 50]), Outcomes::accuracy(vec![false; 50])]];
        assert_eq!(interval(&two_seeds, "s"), Some(Interval { low: 0.5, high: 0.5 }));
        assert_eq!(interval(&[], "s"), None);
        assert_eq!(interval(&[vec![]], "s"), None);
        assert_eq!(interval(&[fold(0, 0)], "s"), None);
    }

    #[test]
    fn map_counts_a_class_without_positives_as_zero() {
        let classes = [
            (vec![0.9, 0.8, 0.1], vec![true, false, false]),
            (vec![0.1, 0.8, 0.9], vec![true, false, false]),
            (vec![0.1, 0.8, 0.9], vec![false, false, false]),
        ];
        let score = Outcomes::map(&classes).score().unwrap();
        assert!((score - (1.0 + 1.0 / 3.0) / 3.0).abs() < 1e-12, "{score}");
    }
}
