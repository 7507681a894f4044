//! 95 % bootstrap intervals: what is resampled, and the correction for small samples.
//!
//! # Method
//! - **Clips** (protocols that do not keep groups whole): in each replicate every fold's test clips are drawn again
//!   with replacement within that fold.
//! - **Groups** (protocol `groups`): clips of one person or scene are right or wrong together, so whole groups are
//!   drawn with replacement, over all folds, and each brings all its clips. Drawing clips within a drawn group once
//!   more would count the spread within groups twice (Davison and Hinkley 1997, section 3.8). A fold counts by the
//!   share of its clips that was drawn.
//! - **Seeds**, where there are several, are drawn too: a drawn seed brings its outcomes in every fold.
//! - The score is computed per fold and seed, averaged over seeds, then over folds; of a pair, the same draw serves
//!   both models.
//! - Of g groups, and of s seeds, one fewer is drawn than there are: with g draws the variance would be too small by
//!   (g − 1)/g (Rao and Wu 1988; Hesterberg 2015). Percentiles are then moved away from the score by t/z,
//!   Student's quantile over the normal one, with g − 1 degrees of freedom, or what Welch and Satterthwaite give
//!   where groups or clips and seeds are drawn. Without that the intervals of fifteen groups cover too little: the
//!   tests of `coverage` say how much. Clips of one seed are many, and their percentiles stay as they are.
//! - Draws come from a named stream, so the same records give the same interval everywhere.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::moments::{mean, population_std};
use super::outcomes::Outcomes;
use super::student::{TAIL, student};

/// Bootstrap replicates.
pub const REPLICATES: usize = 2000;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One test fold.
#[derive(Debug, Clone)]
pub struct Fold {
    /// The outcomes of every seed, clips in the same order in each.
    pub seeds: BTreeMap<u64, Outcomes>,
    /// The group of each clip where groups are to be drawn; none where clips are.
    pub groups: Option<Vec<String>>,
}

/// The group of each clip where whole groups are to be drawn: under every protocol but `clips`, if the groups are
/// known (those that are not are empty). Clips of protocol `groups` whose group is not known count as one group, so
/// that no interval is claimed.
pub fn drawn_groups(protocol: &str, groups: Vec<String>) -> Option<Vec<String>> {
    match protocol {
        "clips" => None,
        "groups" => Some(groups),
        _ => groups.iter().all(|group| !group.is_empty()).then_some(groups),
    }
}

/// 95 % bootstrap interval of the mean over folds; none where a fold has no clips or not all seeds, seeds differ in
/// length, or there is a single group.
pub fn interval(folds: &[Fold], purpose: &str) -> Option<Interval> {
    bootstrap(folds, None, purpose)?.interval(0.0)
}

/// The mean over folds of `a − b` on the same test clips and seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Its 95 % bootstrap interval.
    pub interval: Interval,
    /// Two-sided p-value of "no difference": twice the smaller share of the replicates, moved as the interval's ends
    /// are, on either side of zero. Never below `2 / (REPLICATES + 1)`.
    pub p: f64,
}

/// How two models differ on the same test clips and seeds; none where [`interval`] has none for either, or they were
/// not tested alike.
pub fn paired(a: &[Fold], b: &[Fold], purpose: &str) -> Option<Difference> {
    if a.len() != b.len() {
        return None;
    }
    let replicates = bootstrap(a, Some(b), purpose)?;
    Some(Difference { interval: replicates.interval(-1.0)?, p: replicates.p_of_zero() })
}

/// Scores of the replicates, sorted, and of the sample as it is.
struct Replicates {
    values: Vec<f64>,
    /// How much further from the score than a replicate lies, and the score; none where replicates stay as they are.
    widening: Option<(f64, f64)>,
}

impl Replicates {
    fn interval(&self, least: f64) -> Option<Interval> {
        let (low, high) = (quantile(&self.values, TAIL)?, quantile(&self.values, 1.0 - TAIL)?);
        let (score, factor) = self.widening.unwrap_or((0.0, 1.0));
        Some(Interval {
            low: (score + (low - score) * factor).max(least),
            high: (score + (high - score) * factor).min(1.0),
        })
    }

    fn p_of_zero(&self) -> f64 {
        let (score, factor) = self.widening.unwrap_or((0.0, 1.0));
        let moved = || self.values.iter().map(|value| score + (value - score) * factor);
        let (below, above) = (moved().filter(|v| *v <= 0.0).count(), moved().filter(|v| *v >= 0.0).count());
        let share = (1 + below.min(above)) as f64 / (1 + self.values.len()) as f64;
        (2.0 * share).min(1.0)
    }
}

fn bootstrap(a: &[Fold], b: Option<&[Fold]>, purpose: &str) -> Option<Replicates> {
    let design = Design::of(a)?;
    if b.is_some_and(|b| Design::of(b).as_ref() != Some(&design)) {
        return None;
    }
    let (a, b) = (design.outcomes(a), b.map(|b| design.outcomes(b)));
    let sample = Sample { design, a, b };
    let purpose = format!("bootstrap/{purpose}");
    let mut values = sample.replicates(sample.design.sources(), &purpose);
    if sample.is_map() {
        // A clip that is drawn twice stands beside itself in a ranking, which lifts average precision.
        let lifted = mean(&values)? - sample.score(&sample.design.whole())?;
        for value in &mut values {
            *value -= lifted;
        }
    }
    values.sort_by(f64::total_cmp);
    let widening = match sample.widening(&values, &purpose) {
        Some(factor) => Some((sample.score(&sample.design.whole())?, factor)),
        None => None,
    };
    Some(Replicates { values, widening })
}

fn variance(values: &[f64]) -> f64 {
    population_std(values).map_or(0.0, |std| std * std)
}

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sources {
    /// Clips or groups.
    clips: bool,
    seeds: bool,
}

/// What there is to draw from.
#[derive(Debug, PartialEq)]
struct Design {
    /// All seeds.
    seeds: Vec<u64>,
    /// Groups of all folds; none where clips are drawn.
    groups: Option<usize>,
    folds: Vec<Units>,
}

/// What is drawn of a fold's clips.
#[derive(Debug, PartialEq)]
struct Units {
    /// The unit of each clip.
    of_clip: Vec<usize>,
    /// Clips of each unit.
    sizes: Vec<usize>,
    /// The group that each unit is; none where it is a clip.
    groups: Option<Vec<usize>>,
}

/// How often each unit of each fold, and each seed, is in a replicate.
struct Weights {
    units: Vec<Vec<u32>>,
    seeds: Vec<u32>,
}

impl Units {
    fn of(fold: &Fold, numbers: Option<&BTreeMap<&str, usize>>) -> Option<Self> {
        let clips = fold.seeds.values().next().map(Outcomes::len).filter(|clips| *clips > 0)?;
        if fold.seeds.values().any(|outcomes| outcomes.len() != clips) {
            return None;
        }
        let (Some(names), Some(numbers)) = (&fold.groups, numbers) else {
            return Some(Self { of_clip: (0..clips).collect(), sizes: vec![1; clips], groups: None });
        };
        if names.len() != clips {
            return None;
        }
        let groups: BTreeSet<usize> = names.iter().map(|name| numbers[name.as_str()]).collect();
        let unit: BTreeMap<usize, usize> = groups.iter().copied().zip(0..).collect();
        let of_clip: Vec<usize> = names.iter().map(|name| unit[&numbers[name.as_str()]]).collect();
        let mut sizes = vec![0; groups.len()];
        for unit in &of_clip {
            sizes[*unit] += 1;
        }
        Some(Self { of_clip, sizes, groups: Some(groups.into_iter().collect()) })
    }
}

impl Design {
    fn of(folds: &[Fold]) -> Option<Self> {
        let seeds: BTreeSet<u64> = folds.iter().flat_map(|fold| fold.seeds.keys().copied()).collect();
        // A seed that is drawn would bring fewer folds.
        if folds.iter().any(|fold| fold.seeds.len() < seeds.len()) {
            return None;
        }
        let names: Option<Vec<&Vec<String>>> = folds.iter().map(|fold| fold.groups.as_ref()).collect();
        let numbers: Option<BTreeMap<&str, usize>> = names.map(|of_fold| {
            let names: BTreeSet<&str> = of_fold.into_iter().flatten().map(String::as_str).collect();
            names.into_iter().zip(0..).collect()
        });
        let groups = numbers.as_ref().map(BTreeMap::len);
        let folds: Vec<Units> =
            folds.iter().map(|fold| Units::of(fold, numbers.as_ref())).collect::<Option<_>>()?;
        if folds.is_empty() || groups == Some(1) {
            return None;
        }
        Some(Self { seeds: seeds.into_iter().collect(), groups, folds })
    }

    /// Everything that can be drawn.
    fn sources(&self) -> Sources {
        Sources { clips: true, seeds: self.seeds.len() > 1 }
    }

    /// The sample as it is.
    fn whole(&self) -> Weights {
        Weights {
            units: self.folds.iter().map(|fold| vec![1; fold.sizes.len()]).collect(),
            seeds: vec![1; self.seeds.len()],
        }
    }

    fn draw(&self, sources: Sources, draws: &mut Draws) -> Weights {
        let mut weights = self.whole();
        if sources.seeds {
            let count = self.seeds.len();
            weights.seeds = draws.weights(count, count - 1);
        }
        if !sources.clips {
            return weights;
        }
        let of_group = self.groups.map(|count| draws.weights(count, count - 1));
        for (fold, units) in self.folds.iter().zip(&mut weights.units) {
            *units = match (&of_group, &fold.groups) {
                (Some(drawn), Some(groups)) => groups.iter().map(|group| drawn[*group]).collect(),
                _ => draws.weights(fold.sizes.len(), fold.sizes.len()),
            };
        }
        weights
    }

    /// Outcomes by fold and seed, in this design's units.
    fn outcomes(&self, folds: &[Fold]) -> Vec<Vec<Outcomes>> {
        let merged = |(fold, units): (&Fold, &Units)| {
            fold.seeds.values().map(|seed| seed.merged(&units.of_clip, units.sizes.len())).collect()
        };
        folds.iter().zip(&self.folds).map(merged).collect()
    }
}

/// The outcomes of one model, or of two to be subtracted, by fold and seed.
struct Sample {
    design: Design,
    a: Vec<Vec<Outcomes>>,
    b: Option<Vec<Vec<Outcomes>>>,
}

impl Sample {
    fn is_map(&self) -> bool {
        self.a.iter().flatten().any(Outcomes::is_map)
    }

    fn replicates(&self, sources: Sources, purpose: &str) -> Vec<f64> {
        let mut draws = Draws::new(purpose);
        (0..REPLICATES).filter_map(|_| self.score(&self.design.draw(sources, &mut draws))).collect()
    }

    /// Mean over folds, each by the share of its clips that was drawn.
    fn score(&self, weights: &Weights) -> Option<f64> {
        let (mut sum, mut shares) = (0.0, 0.0);
        for (fold, units) in weights.units.iter().enumerate() {
            let score = |seeds: &[Outcomes]| fold_score(seeds, units, &weights.seeds);
            let Some(ours) = score(&self.a[fold]) else { continue };
            let Some(theirs) = self.b.as_ref().map_or(Some(0.0), |b| score(&b[fold])) else { continue };
            let sizes = &self.design.folds[fold].sizes;
            let drawn: usize = units.iter().zip(sizes).map(|(times, clips)| *times as usize * clips).sum();
            let share = drawn as f64 / self.design.folds[fold].of_clip.len() as f64;
            sum += share * (ours - theirs);
            shares += share;
        }
        (shares > 0.0).then(|| sum / shares)
    }

    /// How much further from the score than the replicates' percentiles the ends must lie; none for clips of one
    /// seed, whose percentiles stay as they are.
    fn widening(&self, both: &[f64], purpose: &str) -> Option<f64> {
        let groups = self.design.groups.map(|count| (count - 1) as f64);
        if !self.design.sources().seeds {
            return student(groups?);
        }
        let alone = |clips, seeds, name: &str| {
            variance(&self.replicates(Sources { clips, seeds }, &format!("{purpose}/{name}")))
        };
        let (of_clips, of_seeds) = (alone(true, false, "clips"), alone(false, true, "seeds"));
        let sum = of_clips + of_seeds;
        if sum == 0.0 {
            return None;
        }
        // What goes with neither is in both terms, and once more in the draw of both.
        let total = (2.0 * sum - variance(both)).max(of_clips).max(of_seeds);
        let seeds = (self.design.seeds.len() - 1) as f64;
        let terms = of_seeds * of_seeds / seeds + groups.map_or(0.0, |groups| of_clips * of_clips / groups);
        Some(student(sum * sum / terms)? * (total / variance(both)).sqrt())
    }
}

/// Mean over the drawn seeds.
fn fold_score(seeds: &[Outcomes], units: &[u32], times: &[u32]) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for (outcomes, times) in seeds.iter().zip(times).filter(|(_, times)| **times > 0) {
        if let Some(score) = outcomes.weighted_score(units) {
            sum += f64::from(*times) * score;
            count += f64::from(*times);
        }
    }
    (count > 0.0).then(|| sum / count)
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

    /// How often each of `n` things is drawn in `times` draws with replacement.
    fn weights(&mut self, n: usize, times: usize) -> Vec<u32> {
        let mut weight = vec![0; n];
        for _ in 0..times {
            weight[self.below(n)] += 1;
        }
        weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(correct: usize, n: usize) -> Fold {
        seeds(&[(correct, n)])
    }

    fn seeds(outcomes: &[(usize, usize)]) -> Fold {
        let of = |(correct, n): &(usize, usize)| Outcomes::accuracy((0..*n).map(|i| i < *correct).collect());
        Fold { seeds: (0..).zip(outcomes.iter().map(of)).collect(), groups: None }
    }

    /// Groups of ten clips, each with so many right ones.
    fn groups(first: usize, right: &[usize]) -> Fold {
        let correct = right.iter().flat_map(|n| (0..10).map(move |i| i < *n)).collect();
        let names = (0..right.len() * 10).map(|clip| (first + clip / 10).to_string()).collect();
        Fold { seeds: BTreeMap::from([(0, Outcomes::accuracy(correct))]), groups: Some(names) }
    }

    fn width(interval: Option<Interval>) -> f64 {
        interval.map(|i| i.high - i.low).unwrap()
    }

    #[test]
    fn interval_is_deterministic_and_near_the_binomial() {
        let folds: Vec<Fold> = (0..5).map(|_| fold(64, 80)).collect();
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
        let d = paired(&a, &b, "d").unwrap().interval;
        assert!(d.low > 0.04 && d.high < 0.16, "{d:?}");
        assert!(d.high - d.low < width(interval(&a, "d")));
        assert_eq!(paired(&a, &a, "d").unwrap().interval, Interval { low: 0.0, high: 0.0 });
        assert_eq!(paired(&a, &b[..1], "d"), None);
        assert_eq!(paired(&[fold(1, 2)], &[fold(1, 3)], "d"), None);
    }

    #[test]
    fn a_p_value_says_what_the_interval_says() {
        let base = || vec![fold(50, 100), fold(50, 100)];
        for more in 0..12 {
            let better = vec![fold(50 + more, 100), fold(50 + more, 100)];
            let Difference { interval, p } = paired(&better, &base(), "p").unwrap();
            assert_eq!(p, paired(&base(), &better, "p").unwrap().p);
            assert_eq!(p < 0.05, interval.low > 0.0, "{more}: {p} {interval:?}");
        }
        assert_eq!(paired(&base(), &base(), "p").unwrap().p, 1.0);
        let (all, none) = ([groups(0, &[10; 9])], [groups(0, &[0; 9])]);
        assert_eq!(paired(&all, &none, "p").unwrap().p, 2.0 / (REPLICATES + 1) as f64);
    }

    #[test]
    fn whole_groups_are_drawn() {
        // Every group is all right or all wrong: ten times as many clips say no more.
        let folds = [groups(0, &[10, 0, 10]), groups(3, &[0, 10, 0]), groups(6, &[10, 10, 0])];
        let clips: Vec<Fold> = folds.iter().map(|f| Fold { groups: None, ..f.clone() }).collect();
        let (wide, narrow) = (width(interval(&folds, "g")), width(interval(&clips, "g")));
        // Nine throws of a coin, t of 8 degrees of freedom: ± 2.31 · 0.527 / 3, less or more by a throw.
        assert!((wide - 0.812).abs() < 0.1, "{wide}");
        assert!(narrow < 0.25, "{narrow}");
        // What both models share goes with the group.
        let same = [groups(0, &[9, 1, 9]), groups(3, &[1, 9, 1]), groups(6, &[9, 9, 1])];
        assert!(width(paired(&folds, &same, "g").map(|d| d.interval)) < width(interval(&folds, "g")) / 3.0);
        assert_eq!(interval(&[groups(0, &[5])], "g"), None, "one group says nothing of others");
    }

    #[test]
    fn seeds_are_drawn_where_there_are_several() {
        let [one, three] = [&[(60, 100)][..], &[(40, 100), (60, 100), (80, 100)]].map(seeds);
        // Seeds at .4, .6, .8 with two degrees of freedom: ± 4.3 · 0.2 / sqrt(3), and the clips beside.
        assert!(width(interval(std::slice::from_ref(&one), "s")) < 0.2);
        assert!(width(interval(std::slice::from_ref(&three), "s")) > 0.8);
        let other = seeds(&[(30, 100), (50, 100), (70, 100)]);
        let difference = paired(&[three], &[other], "s").unwrap().interval;
        assert!(difference.low > 0.0, "the seeds' common part is no part of a difference: {difference:?}");
    }

    #[test]
    fn what_cannot_be_drawn_has_no_interval() {
        assert_eq!(interval(&[], "s"), None);
        assert_eq!(interval(&[Fold { seeds: BTreeMap::new(), groups: None }], "s"), None);
        assert_eq!(interval(&[fold(0, 0)], "s"), None);
        assert_eq!(interval(&[seeds(&[(1, 2), (1, 3)])], "s"), None);
        assert_eq!(interval(&[seeds(&[(1, 2), (1, 2)]), fold(1, 2)], "s"), None);
    }
}
