//! How often an interval holds the truth: studies simulated with known correlation within groups.
//!
//! A group's clips share a deviation of the chance to be right, a clip's seeds another, a seed's clips a third. The
//! truth is .5, or no difference, whatever these are.

use std::collections::BTreeMap;
use std::io::Write;

use super::bootstrap::{Draws, Fold, Interval, interval, paired};
use super::outcomes::Outcomes;

const STUDIES: usize = 1000;
const FOLDS: usize = 5;

/// A population of studies: numbers, and standard deviations of the chance to be right.
#[derive(Debug, Clone, Copy)]
struct Population {
    groups: usize,
    clips_per_group: usize,
    seeds: usize,
    group: f64,
    clip: f64,
    seed: f64,
}

/// Fifteen speakers.
const SPEAKERS: Population =
    Population { groups: 15, clips_per_group: 20, seeds: 1, group: 0.1, clip: 0.0, seed: 0.0 };

/// Nearly normal: the sum of twelve uniform numbers.
fn normal(draws: &mut Draws) -> f64 {
    (0..12).map(|_| uniform(draws)).sum::<f64>() - 6.0
}

fn uniform(draws: &mut Draws) -> f64 {
    (draws.bits() >> 11) as f64 / (1_u64 << 53) as f64
}

/// `N` models on the same clips, each with deviations of its own and those of clips and groups in common.
fn study<const N: usize>(of: Population, number: usize) -> [Vec<Fold>; N] {
    let mut draws = Draws::new(&format!("coverage/{of:?}/{number}"));
    let seeds: [Vec<f64>; N] =
        std::array::from_fn(|_| (0..of.seeds).map(|_| of.seed * normal(&mut draws)).collect());
    let mut models: [Vec<Fold>; N] = std::array::from_fn(|_| Vec::new());
    for fold in 0..FOLDS {
        let mut right: [Vec<Vec<bool>>; N] = std::array::from_fn(|_| vec![Vec::new(); of.seeds]);
        let mut names = Vec::new();
        for group in (fold..of.groups).step_by(FOLDS) {
            let common = of.group * normal(&mut draws);
            let own: [f64; N] = std::array::from_fn(|_| of.group * normal(&mut draws));
            for _ in 0..of.clips_per_group {
                let clip = of.clip * normal(&mut draws);
                names.push(group.to_string());
                for ((right, seeds), own) in right.iter_mut().zip(&seeds).zip(&own) {
                    for (right, seed) in right.iter_mut().zip(seeds) {
                        right.push(uniform(&mut draws) < 0.5 + common + own + clip + seed);
                    }
                }
            }
        }
        for (model, right) in models.iter_mut().zip(right) {
            let seeds = (0..).zip(right.into_iter().map(Outcomes::accuracy)).collect::<BTreeMap<_, _>>();
            model.push(Fold { seeds, groups: Some(names.clone()) });
        }
    }
    models
}

/// A model whose scores of a clip's own class are a standard deviation higher, on clips of three classes; a group's
/// clips share deviations of their scores.
fn map_study(of: Population, number: usize) -> Vec<Fold> {
    const CLASSES: usize = 3;
    let mut draws = Draws::new(&format!("coverage/map/{of:?}/{number}"));
    let fold = |fold: usize| {
        let (mut scores, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for group in (fold..of.groups).step_by(FOLDS) {
            let common: [f64; CLASSES] = std::array::from_fn(|_| of.group * normal(&mut draws));
            for _ in 0..of.clips_per_group {
                let class = draws.below(CLASSES);
                let score = |c: usize| common[c] + normal(&mut draws) + f64::from(u8::from(c == class));
                scores.push((0..CLASSES).map(score).collect());
                labels.push(vec![class]);
                names.push(group.to_string());
            }
        }
        let outcomes = Outcomes::map(&scores, &labels, CLASSES);
        Fold { seeds: BTreeMap::from([(0, outcomes)]), groups: Some(names) }
    };
    (0..FOLDS).map(fold).collect()
}

/// The share of studies whose interval holds the truth, printed.
fn coverage(name: &str, truth: f64, study: impl Fn(usize) -> Option<Interval>) -> f64 {
    let held = (0..STUDIES).filter(|number| {
        study(*number).is_some_and(|interval| interval.low <= truth && truth <= interval.high)
    });
    let share = held.count() as f64 / STUDIES as f64;
    // Past the harness, which keeps what a passing test prints.
    let _ =
        writeln!(std::io::stderr(), "{:.1} % of {STUDIES} intervals hold the truth: {name}", share * 100.0);
    share
}

fn by_clips(folds: &[Fold]) -> Vec<Fold> {
    folds.iter().map(|fold| Fold { groups: None, ..fold.clone() }).collect()
}

#[test]
fn ninety_five_percent_of_intervals_hold_the_truth() {
    let score = |of: Population| {
        move |n: usize| {
            let [folds] = study(of, n);
            interval(&folds, &n.to_string())
        }
    };
    let difference = |of: Population| {
        move |n: usize| {
            let [a, b] = study(of, n);
            paired(&a, &b, &n.to_string()).map(|difference| difference.interval)
        }
    };
    let alone = Population { groups: 300, clips_per_group: 1, group: 0.0, ..SPEAKERS };
    let seeds = Population { seeds: 3, clip: 0.2, seed: 0.03, ..SPEAKERS };
    let shares = [
        coverage("15 groups of 20 clips", 0.5, score(SPEAKERS)),
        coverage("15 groups, independent clips", 0.5, score(Population { group: 0.0, ..SPEAKERS })),
        coverage("15 groups that differ much", 0.5, score(Population { group: 0.2, ..SPEAKERS })),
        coverage(
            "25 groups of 12 clips",
            0.5,
            score(Population { groups: 25, clips_per_group: 12, ..SPEAKERS }),
        ),
        coverage("5 groups of 20 clips", 0.5, score(Population { groups: 5, ..SPEAKERS })),
        coverage("15 groups, three seeds", 0.5, score(seeds)),
        coverage("15 groups, two models", 0.0, difference(SPEAKERS)),
        coverage("15 groups, three seeds, two models", 0.0, difference(seeds)),
        coverage("300 clips without groups", 0.5, |n| {
            let [folds] = study(alone, n);
            interval(&by_clips(&folds), &n.to_string())
        }),
    ];
    assert!(shares.iter().all(|share| (0.93..=0.97).contains(share)), "{shares:?}");
}

#[test]
fn intervals_of_mean_average_precision_hold_its_mean() {
    let share = |name: &str, of: Population, kept: fn(&[Fold]) -> Vec<Fold>| {
        let score = |fold: &Fold| fold.seeds[&0].score().unwrap();
        let of_study = |n: usize| map_study(of, n).iter().map(score).sum::<f64>() / FOLDS as f64;
        let truth = (0..STUDIES).map(of_study).sum::<f64>() / STUDIES as f64;
        coverage(&format!("MAP, {name}"), truth, |n| interval(&kept(&map_study(of, n)), &n.to_string()))
    };
    let groups = Population { group: 0.3, ..SPEAKERS };
    let clips = Population { groups: 300, clips_per_group: 1, ..groups };
    let shares = [
        share("15 groups of 20 clips", groups, <[Fold]>::to_vec),
        share("300 clips without groups", clips, by_clips),
    ];
    assert!(shares.iter().all(|share| (0.93..=0.97).contains(share)), "{shares:?}");
}

#[test]
fn drawing_clips_of_correlated_groups_covers_too_little() {
    let share = coverage("15 groups of 20 clips, clips drawn", 0.5, |n| {
        let [folds] = study(SPEAKERS, n);
        interval(&by_clips(&folds), &n.to_string())
    });
    assert!(share < 0.85, "{share}");
}
