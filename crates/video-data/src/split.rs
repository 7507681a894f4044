//! Folds: which clips are tested while the others are trained on.

use rand::seq::SliceRandom;

use crate::digest;
use crate::error::{Error, Result};
use crate::kind::Split;
use crate::store::StoredClip;

/// Folds over shuffled clips; returns the test clips of each fold, ascending.
///
/// A permutation cut into `k` parts, the first `n mod k` of them one clip longer. Clips of one source video land
/// in different folds: this is the paper's protocol, and it leaks.
///
/// # Errors
/// [`Error::Invalid`] unless `2 <= k <= n`.
///
/// # Paper
/// Released code of Yang, Krompass, Tresp (2017): `np.random.choice(range(N), N, False)`, `np.array_split`.
pub fn folds_by_clips(n: usize, k: usize, rng: &mut impl rand::Rng) -> Result<Vec<Vec<usize>>> {
    check(k, n, "clips")?;
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(rng);
    let mut rest = order.as_slice();
    let folds = (0..k).map(|fold| {
        let (part, tail) = rest.split_at(n / k + usize::from(fold < n % k));
        rest = tail;
        let mut part = part.to_vec();
        part.sort_unstable();
        part
    });
    Ok(folds.collect())
}

/// Folds that keep groups whole, with the classes spread as evenly as possible; returns the test clips of
/// each fold, ascending.
///
/// Groups are taken in random order, larger ones first; each goes to the fold where it keeps the class counts
/// most even. Every clip has a group ([`require_groups`]); `labels` has one list of class indices per clip.
///
/// # Errors
/// [`Error::Invalid`] unless `2 <= k <=` number of groups.
pub fn folds_by_groups(
    groups: &[String],
    labels: &[Vec<usize>],
    k: usize,
    rng: &mut impl rand::Rng,
) -> Result<Vec<Vec<usize>>> {
    if groups.len() != labels.len() {
        return Err(Error::Invalid(format!("{} groups for {} clips", groups.len(), labels.len())));
    }
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|a, b| groups[*a].cmp(&groups[*b]).then(a.cmp(b)));
    let mut units: Vec<&[usize]> = order.chunk_by(|a, b| groups[*a] == groups[*b]).collect();
    check(k, units.len(), "groups")?;
    units.shuffle(rng);
    units.sort_by_key(|unit| std::cmp::Reverse(unit.len()));
    let classes = labels.iter().flatten().max().map_or(0, |label| label + 1);
    let mut totals = vec![0.0_f64; classes];
    for label in labels.iter().flatten() {
        totals[*label] += 1.0;
    }
    let mut counts = vec![vec![0.0_f64; classes]; k];
    let mut folds = vec![Vec::new(); k];
    for unit in units {
        let mut own = vec![0.0; classes];
        for label in unit.iter().flat_map(|clip| &labels[*clip]) {
            own[*label] += 1.0;
        }
        // Growth of the sum of squared class shares: smallest where these classes are scarce.
        let growth = |fold: usize| -> f64 {
            let class =
                |c: usize| own[c] * (2.0 * counts[fold][c] + own[c]) / (totals[c] * totals[c]).max(1.0);
            (0..classes).map(class).sum()
        };
        let best = (0..k)
            .min_by(|a, b| growth(*a).total_cmp(&growth(*b)).then(folds[*a].len().cmp(&folds[*b].len())));
        let best = best.unwrap_or(0);
        for (count, own) in counts[best].iter_mut().zip(own) {
            *count += own;
        }
        folds[best].extend_from_slice(unit);
    }
    for fold in &mut folds {
        fold.sort_unstable();
    }
    Ok(folds)
}

/// Refuses clips without a group: dealt one by one, they would make a split by clips under the name of a
/// leak-free one. `clips` are names and groups.
///
/// # Errors
/// [`Error::Invalid`] with their number, the first one and how to give groups.
pub fn require_groups<'a>(clips: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
    let (mut all, mut without, mut first) = (0, 0, "");
    for (name, group) in clips {
        all += 1;
        if group.is_empty() {
            first = if without == 0 { name } else { first };
            without += 1;
        }
    }
    if without == 0 {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "protocol groups needs the group of every clip (its person, scene or source video), and {without} of {all} \
         clips have none, the first {first}: give each group its own folder, DIR/<class>/<group>/<clip>, or name it in \
         the column group of a list (--split FILE), or run protocol clips, whose test clips may be near-copies of \
         training clips"
    )))
}

/// The official split as one fold: its test clips.
///
/// # Errors
/// [`Error::Invalid`] if a clip is not in the split, or one part is empty.
pub fn official(clips: &[StoredClip]) -> Result<Vec<Vec<usize>>> {
    if let Some(clip) = clips.iter().find(|clip| clip.split.is_none()) {
        return Err(Error::Invalid(format!(
            "no official split: {} has no place in it; name the split's list with --split FILE, lay the clips out as \
             train/<class>/ and test/<class>/, or run --protocol clips",
            clip.name
        )));
    }
    let test: Vec<usize> = (0..clips.len()).filter(|i| clips[*i].split == Some(Split::Test)).collect();
    if test.is_empty() || test.len() == clips.len() {
        let message = format!(
            "official split: {} of {} clips are for testing, and both sides need some: see --split FILE, or run --protocol \
             clips",
            test.len(),
            clips.len()
        );
        return Err(Error::Invalid(message));
    }
    Ok(vec![test])
}

/// The clips that are not in `test`: what a fold trains on.
pub fn train_clips(n: usize, test: &[usize]) -> Vec<usize> {
    let mut is_test = vec![false; n];
    for clip in test {
        is_test[*clip] = true;
    }
    (0..n).filter(|clip| !is_test[*clip]).collect()
}

/// SHA-256 of a split: of every test clip's name with its fold.
pub fn split_digest<'a>(names: impl Fn(usize) -> &'a str, folds: &[Vec<usize>]) -> String {
    let mut text = String::new();
    for (number, fold) in folds.iter().enumerate() {
        for clip in fold {
            text.push_str(&number.to_string());
            text.push('\t');
            text.push_str(names(*clip));
            text.push('\n');
        }
    }
    digest::of_bytes(text.as_bytes())
}

fn check(k: usize, n: usize, what: &str) -> Result<()> {
    if (2..=n).contains(&k) {
        return Ok(());
    }
    let possible = if n < 2 {
        "at least 2 are needed".to_owned()
    } else {
        format!("from 2 to {n} are possible (--set protocol.folds={n})")
    };
    Err(Error::Invalid(format!("{k} folds of {n} {what}: {possible}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    proptest! {
        #[test]
        fn every_clip_is_tested_once(n in 2usize..200, k in 2usize..9, seed: u64) {
            prop_assume!(k <= n);
            let folds = folds_by_clips(n, k, &mut rng(seed)).unwrap();
            let mut all = folds.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
            let sizes: Vec<usize> = folds.iter().map(Vec::len).collect();
            prop_assert!(sizes.windows(2).all(|pair| pair[0] == pair[1] || pair[0] == pair[1] + 1));
        }

        #[test]
        fn groups_stay_whole(owners in proptest::collection::vec(0usize..12, 30..120), seed: u64) {
            let groups: Vec<String> = owners.iter().map(|owner| format!("g{owner}")).collect();
            let labels: Vec<Vec<usize>> = (0..groups.len()).map(|i| vec![i % 5]).collect();
            let Ok(folds) = folds_by_groups(&groups, &labels, 3, &mut rng(seed)) else { return Ok(()) };
            let mut all = folds.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..groups.len()).collect::<Vec<_>>());
            let home = |g: &str| folds.iter().filter(|fold| fold.iter().any(|i| groups[*i] == g)).count();
            prop_assert!(groups.iter().all(|group| home(group) == 1));
        }
    }

    #[test]
    fn classes_are_balanced_over_group_folds() {
        // 25 groups, each with one clip of 11 classes: every fold must get five of each.
        let groups: Vec<String> = (0..275).map(|i| format!("{:02}", i / 11)).collect();
        let labels: Vec<Vec<usize>> = (0..275).map(|i| vec![i % 11]).collect();
        for fold in folds_by_groups(&groups, &labels, 5, &mut rng(3)).unwrap() {
            for class in 0..11 {
                assert_eq!(fold.iter().filter(|i| labels[**i] == [class]).count(), 5);
            }
        }
    }

    #[test]
    fn clips_without_a_group_are_refused() {
        require_groups([("walk/1.avi", "a"), ("walk/2.avi", "b")].into_iter()).unwrap();
        let flat = [("walk/1.avi", "a"), ("walk/2.avi", ""), ("run/3.avi", "")];
        let error = require_groups(flat.into_iter()).unwrap_err().to_string();
        assert!(error.contains("2 of 3 clips have none, the first walk/2.avi"), "{error}");
        assert!(error.contains("DIR/<class>/<group>/<clip>"), "{error}");
        assert!(folds_by_groups(&vec!["one".into(); 6], &vec![vec![0]; 6], 2, &mut rng(1)).is_err());
    }

    #[test]
    fn the_digest_knows_names_and_folds() {
        let names = ["a", "b", "c", "d"];
        let digest = |folds: &[Vec<usize>]| split_digest(|i| names[i], folds);
        assert_eq!(digest(&[vec![0, 1], vec![2, 3]]), digest(&[vec![0, 1], vec![2, 3]]));
        assert_ne!(digest(&[vec![0, 1], vec![2, 3]]), digest(&[vec![0], vec![1, 2, 3]]));
    }
}
