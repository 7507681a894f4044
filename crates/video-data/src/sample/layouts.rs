//! Which clips a sample has: names, labels and motions in every layout.

use rand::RngExt;

use super::random::stream;
use super::scene::Motion;
use crate::datasets::{hollywood2, ucf11};
use crate::kind::Split;
use crate::sample_info::Layout;

/// One clip to be rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleClip {
    /// Path below the sample's folder.
    pub name: String,
    /// Indices into the classes of the dataset's scan.
    pub labels: Vec<usize>,
    /// The official split, where the layout has one.
    pub split: Option<Split>,
    /// The scene's number: background and nothing else.
    pub scene: u32,
    /// One ball per motion.
    pub motions: Vec<Motion>,
    /// Frames at the layout's own rate.
    pub frames: u32,
}

/// Pixels a second of a moving ball at 320 pixels a row: nearly once across the frame.
const SPEED: f64 = 300.0;
/// Seconds per turn of a circle.
const TURN_S: f64 = 1.0;
/// Groups of the UCF11 sample, and clips of each class in a group.
const UCF11_GROUPS: u32 = 20;
const UCF11_CLIPS: u32 = 2;
/// Clips of each part of the Hollywood2 sample's split, and its scenes.
const HOLLYWOOD2_CLIPS: u32 = 78;
const HOLLYWOOD2_SCENES: u32 = 12;
/// Clips of each person of the YouTube Celebrities sample, and its source videos.
const YTC_CLIPS: u32 = 5;
const YTC_VIDEOS: u32 = 5;
/// Classes of the sample in the layout of anyone's clips, in byte order; its groups, and clips of each class in
/// a group.
const FOLDER_CLASSES: [(&str, Motion); 4] = [
    ("left", Motion::Straight { turn: 0.5, speed: SPEED / 2.0 }),
    ("right", Motion::Straight { turn: 0.0, speed: SPEED / 2.0 }),
    ("round", Motion::Circle { radius: 24.0, speed: SPEED / 2.0 }),
    ("still", Motion::Still),
];
const FOLDER_GROUPS: u32 = 3;
const FOLDER_CLIPS: u32 = 3;
/// Persons known from the real dataset; the others are numbered.
const PERSONS: [&str; 14] = [
    "al_pacino",
    "alanis_morissette",
    "anderson_cooper",
    "angelina_jolie",
    "bill_clinton",
    "bill_gates",
    "gloria_estefan",
    "jet_li",
    "julia_roberts",
    "noam_chomsky",
    "sylvester_stallone",
    "tony_blair",
    "victoria_beckham",
    "vladimir_putin",
];

/// Eight directions, two circles, one at rest: eleven motions.
fn eleven() -> Vec<Motion> {
    let mut motions: Vec<_> =
        (0..8).map(|k| Motion::Straight { turn: f64::from(k) / 8.0, speed: SPEED }).collect();
    motions.extend(circles(SPEED * TURN_S / std::f64::consts::TAU, SPEED));
    motions.push(Motion::Still);
    motions
}

fn circles(radius: f64, speed: f64) -> [Motion; 2] {
    [Motion::Circle { radius, speed }, Motion::Circle { radius, speed: -speed }]
}

/// Sixteen directions and eight shuttles at two speeds, three circles either way, one at rest: 47 motions.
fn forty_seven() -> Vec<Motion> {
    let mut motions = Vec::new();
    for speed in [0.6 * SPEED, 1.3 * SPEED] {
        motions.extend((0..16).map(|k| Motion::Straight { turn: f64::from(k) / 16.0, speed }));
        motions.extend((0..4).map(|k| Motion::Shuttle { turn: f64::from(k) / 8.0, speed }));
    }
    for radius in [25.0, 48.0, 80.0] {
        motions.extend(circles(radius, radius * std::f64::consts::TAU / TURN_S));
    }
    motions.push(Motion::Still);
    motions
}

/// All clips of the sample, sorted by name within each part.
pub fn plan(layout: Layout, seed: u64) -> Vec<SampleClip> {
    match layout {
        Layout::Ucf11 => ucf11(seed),
        Layout::Ucf11Rehearsal => ucf11_rehearsal(seed),
        Layout::Hollywood2 => hollywood2(seed),
        Layout::YoutubeCelebrities => youtube_celebrities(seed),
        Layout::Folder => folder(seed),
    }
}

/// A clip's number of frames, drawn independently of its class.
fn frames(seed: u64, name: &str, from: u32, to: u32) -> u32 {
    stream(seed, &format!("sample/frames/{name}")).random_range(from..=to)
}

fn ucf11(seed: u64) -> Vec<SampleClip> {
    like_ucf11(seed, UCF11_GROUPS, |_, _| UCF11_CLIPS, (27, 33))
}

/// As many clips of each class as the dataset has, dealt over its groups.
fn ucf11_rehearsal(seed: u64) -> Vec<SampleClip> {
    let groups = ucf11::GROUPS as u32;
    let share = |class: usize, group: u32| {
        let before = |group: u32| ucf11::CLASSES[class].2 as u32 * group / groups;
        before(group) - before(group - 1)
    };
    like_ucf11(seed, groups, share, (30, 120))
}

fn like_ucf11(
    seed: u64,
    groups: u32,
    clips_of: impl Fn(usize, u32) -> u32,
    (from, to): (u32, u32),
) -> Vec<SampleClip> {
    let mut clips = Vec::new();
    for (label, ((class, prefix, _), motion)) in ucf11::CLASSES.into_iter().zip(eleven()).enumerate() {
        for group in 1..=groups {
            for clip in 1..=clips_of(label, group) {
                let folder = format!("{prefix}_{group:02}");
                let name = format!("UCF11_updated_mpg/{class}/{folder}/{folder}_{clip:02}.mpg");
                let frames = frames(seed, &name, from, to);
                let (labels, motions) = (vec![label], vec![motion]);
                clips.push(SampleClip { name, labels, split: None, scene: group, motions, frames });
            }
        }
    }
    clips
}

fn hollywood2(seed: u64) -> Vec<SampleClip> {
    let mut motions = eleven();
    motions.push(Motion::Shuttle { turn: 0.0, speed: SPEED });
    let classes = hollywood2::CLASSES.len();
    let mut clips = Vec::new();
    for (split, word, _) in hollywood2::COUNTS {
        for number in 1..=HOLLYWOOD2_CLIPS {
            let name = format!("AVIClips/actionclip{word}{number:05}.avi");
            let mut rng = stream(seed, &format!("sample/labels/{name}"));
            // Every class has clips in either part; two in five clips show a second action.
            let mut labels = vec![number as usize % classes];
            if rng.random_range(0..5) < 2 {
                labels.push((labels[0] + rng.random_range(1..classes)) % classes);
                labels.sort_unstable();
            }
            // As in the official split, training and test clips come from different films.
            let film = rng.random_range(0..HOLLYWOOD2_SCENES / 2);
            let scene = if split == Split::Train { film } else { film + HOLLYWOOD2_SCENES / 2 };
            let motions = labels.iter().map(|label| motions[*label]).collect();
            let frames = frames(seed, &name, 30, 45);
            clips.push(SampleClip { name, labels, split: Some(split), scene, motions, frames });
        }
    }
    clips
}

fn youtube_celebrities(seed: u64) -> Vec<SampleClip> {
    let motions = forty_seven();
    let mut persons: Vec<String> = PERSONS.iter().map(|person| (*person).to_owned()).collect();
    persons.extend((persons.len() + 1..=motions.len()).map(|number| format!("person_{number:02}")));
    persons.sort_unstable();
    let mut clips = Vec::new();
    for (label, (person, motion)) in persons.iter().zip(motions).enumerate() {
        for clip in 0..YTC_CLIPS {
            let video = clip % YTC_VIDEOS + 1;
            let number = label as u32 * YTC_CLIPS + clip;
            let name = format!("{number:04}_{video:02}_{:03}_{person}.avi", clip + 1);
            let frames = frames(seed, &name, 26, 40);
            clips.push(SampleClip {
                name,
                labels: vec![label],
                split: None,
                scene: video,
                motions: vec![motion],
                frames,
            });
        }
    }
    clips
}

fn folder(seed: u64) -> Vec<SampleClip> {
    let mut clips = Vec::new();
    for (label, (class, motion)) in FOLDER_CLASSES.into_iter().enumerate() {
        for group in 1..=FOLDER_GROUPS {
            for clip in 1..=FOLDER_CLIPS {
                let name = format!("{class}/scene_{group}/{class}_{group}_{clip}.avi");
                let frames = frames(seed, &name, 14, 20);
                let (labels, motions) = (vec![label], vec![motion]);
                clips.push(SampleClip { name, labels, split: None, scene: group, motions, frames });
            }
        }
    }
    clips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_have_the_layouts_counts() {
        let ucf11 = plan(Layout::Ucf11, 1);
        assert_eq!(ucf11.len(), 440);
        assert!(
            ucf11
                .iter()
                .any(|clip| clip.name == "UCF11_updated_mpg/walking/v_walk_dog_20/v_walk_dog_20_02.mpg")
        );
        let rehearsal = plan(Layout::Ucf11Rehearsal, 1);
        assert_eq!(rehearsal.len(), 1600);
        for (label, class) in ucf11::CLASSES.iter().enumerate() {
            assert_eq!(rehearsal.iter().filter(|clip| clip.labels == [label]).count(), class.2);
            let mut groups = (1..=ucf11::GROUPS as u32).map(|group| (group, label));
            assert!(groups.all(|(group, label)| {
                rehearsal.iter().any(|c| (c.scene, &c.labels[..]) == (group, &[label]))
            }));
        }
        let hollywood2 = plan(Layout::Hollywood2, 1);
        assert_eq!(hollywood2.len(), 156);
        for split in [Split::Train, Split::Test] {
            let part = || hollywood2.iter().filter(|clip| clip.split == Some(split));
            assert!((0..12).all(|label| part().any(|clip| clip.labels.contains(&label))));
            assert!(part().any(|clip| clip.labels.len() == 2));
        }
        let ytc = plan(Layout::YoutubeCelebrities, 1);
        assert_eq!(ytc.iter().map(|clip| clip.labels[0]).max(), Some(46));
        let motions = forty_seven();
        assert!((1..motions.len()).all(|i| !motions[..i].contains(&motions[i])));
    }
}
