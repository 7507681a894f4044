//! Whether the clips support the claim made about them: several classes, groups to keep whole, a complete
//! dataset.

use std::collections::BTreeSet;

use video_data::datasets::Dataset;
use video_data::{Error, Result, split};

use crate::spec::Spec;

/// Refuses clips that no decoding could make usable, before any is decoded.
///
/// # Errors
/// Clips of a single class; protocol `groups` where a clip has no group.
pub(crate) fn scanned(spec: &Spec, dataset: &Dataset) -> Result<()> {
    let labels: Vec<&[usize]> = dataset.clips.iter().map(|clip| clip.labels.as_slice()).collect();
    require_classes(&used(&labels), &dataset.classes, dataset.multi_label)?;
    if spec.protocol.kind == "groups" {
        split::require_groups(dataset.clips.iter().map(|clip| (clip.name.as_str(), clip.group.as_str())))?;
    }
    Ok(())
}

/// Refuses clips of a single class after decoding; returns warnings about classes without usable clips.
///
/// # Errors
/// Clips of a single class.
pub(crate) fn decoded(labels: &[&[usize]], classes: &[String], multi_label: bool) -> Result<Vec<String>> {
    let used = used(labels);
    require_classes(&used, classes, multi_label)?;
    let gone = classes.iter().enumerate().filter(|(class, _)| !used.contains(class));
    let warning = |(_, name): (usize, &String)| {
        format!("class {name:?} has no usable clip: it stays a possible answer, and is never tested")
    };
    Ok(gone.map(warning).collect())
}

/// A warning about a fold: test clips of a class without training clips cannot be right.
pub(crate) fn untrained(train: &[&[usize]], test: &[&[usize]], classes: &[String]) -> Option<String> {
    let (trained, tested) = (used(train), used(test));
    let names: Vec<&str> = tested.difference(&trained).map(|class| classes[*class].as_str()).collect();
    let lost = test.iter().filter(|labels| labels.iter().any(|label| !trained.contains(label))).count();
    let said = format!(
        "no training clips of {}: its {lost} test clips of these classes cannot be right",
        names.join(", ")
    );
    (lost > 0).then_some(said)
}

/// The classes that clips have.
pub(crate) fn used(labels: &[&[usize]]) -> BTreeSet<usize> {
    labels.iter().copied().flatten().copied().collect()
}

fn require_classes(used: &BTreeSet<usize>, classes: &[String], multi_label: bool) -> Result<()> {
    match used.first() {
        Some(only) if used.len() == 1 && !multi_label => Err(Error::Invalid(format!(
            "all usable clips are of one class, {:?}: there is nothing to tell apart; give each class a folder of \
             its own, DIR/<class>/<clip>",
            classes[*only]
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Overrides;
    use std::fs;
    use std::path::Path;
    use video_data::datasets::{Kind, scan};

    fn spec(protocol: &str) -> Spec {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let overrides = Overrides { protocol: Some(protocol.into()), ..Overrides::default() };
        Spec::load(&root, "folder", &overrides).unwrap()
    }

    fn refusal(protocol: &str, clips: &[&str]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for clip in clips {
            let path = dir.path().join(clip);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let dataset = scan(Kind::Folder, dir.path()).unwrap();
        scanned(&spec(protocol), &dataset).err().map(|error| error.to_string())
    }

    #[test]
    fn clips_are_refused_before_they_are_decoded() {
        let flat = ["run/1.avi", "walk/1.avi", "walk/ann/2.avi"];
        assert_eq!(refusal("clips", &flat), None);
        let said = refusal("groups", &flat).unwrap();
        assert!(said.contains("2 of 3 clips have none, the first run/1.avi"), "{said}");
        assert_eq!(refusal("groups", &["run/ann/1.avi", "walk/ann/1.avi", "walk/bob/2.avi"]), None);
        let said = refusal("clips", &["walk/1.avi", "walk/2.avi"]).unwrap();
        assert!(said.contains("all usable clips are of one class, \"walk\""), "{said}");
    }

    #[test]
    fn what_is_left_after_decoding_is_looked_at_again() {
        let classes = ["jump", "run", "walk"].map(String::from);
        assert!(decoded(&[&[2], &[2]], &classes, false).is_err(), "jump and run were all left out");
        assert_eq!(decoded(&[&[2], &[2]], &classes, true).unwrap().len(), 2);
        let said = decoded(&[&[1], &[2]], &classes, false).unwrap();
        assert!(said.len() == 1 && said[0].contains("\"jump\" has no usable clip"), "{said:?}");
        assert_eq!(untrained(&[&[0], &[1]], &[&[1], &[0]], &classes), None);
        let said = untrained(&[&[0]], &[&[1], &[2], &[2], &[0]], &classes).unwrap();
        assert_eq!(said, "no training clips of run, walk: its 3 test clips of these classes cannot be right");
    }
}
