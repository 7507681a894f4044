//! The rendered samples, and the file that marks a folder as one.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kind::Kind;

/// Version of the renderer: another version renders other clips.
pub const VERSION: u32 = 1;
/// The file that marks a complete sample.
pub const INFO: &str = "sample.json";

/// A layout that can be rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// 440 clips, 11 classes, 20 groups: MPEG-1 in `.mpg`, 320×240 at 29.97 fps.
    Ucf11,
    /// UCF11 in full size: 1,600 clips, as many of each class, in 25 groups; 24 to 96 frames at 24 fps. Coded as [`Layout::Ucf11`].
    Ucf11Rehearsal,
    /// 78 training and 78 test clips, 12 classes, several labels a clip: MPEG-4 in `.avi`, 320×136 at 25 fps.
    Hollywood2,
    /// 235 clips of 47 persons: MPEG-4 in `.avi`, 320×240 at 25 fps.
    YoutubeCelebrities,
    /// 36 clips, 4 classes, 3 groups, small and short, for trying the program itself: MPEG-4 in `.avi`,
    /// 160×128 at 25 fps.
    Folder,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Self; 5] =
        [Self::Ucf11, Self::Ucf11Rehearsal, Self::Hollywood2, Self::YoutubeCelebrities, Self::Folder];

    /// The dataset whose layout it is.
    pub fn kind(self) -> Kind {
        match self {
            Self::Ucf11 | Self::Ucf11Rehearsal => Kind::Ucf11,
            Self::Hollywood2 => Kind::Hollywood2,
            Self::YoutubeCelebrities => Kind::YoutubeCelebrities,
            Self::Folder => Kind::Folder,
        }
    }

    /// Its name: that of the dataset, or one of its own.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ucf11Rehearsal => "ucf11-rehearsal",
            layout => layout.kind().name(),
        }
    }

    /// The layout of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.name() == name)
    }

    /// Pixels per row and rows of a clip.
    pub fn size(self) -> (usize, usize) {
        match self {
            Self::Ucf11 | Self::Ucf11Rehearsal | Self::YoutubeCelebrities => (320, 240),
            Self::Hollywood2 => (320, 136),
            Self::Folder => (160, 128),
        }
    }

    /// Frames a second, as numerator and denominator.
    pub fn fps(self) -> (i32, i32) {
        if self.kind() == Kind::Ucf11 { (30_000, 1001) } else { (25, 1) }
    }

    /// What every record of the sample says.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Ucf11 | Self::Ucf11Rehearsal => "rendered sample, not UCF11",
            Self::Hollywood2 => "rendered sample, not Hollywood2",
            Self::YoutubeCelebrities => "rendered sample, not YouTube Celebrities",
            Self::Folder => "rendered sample, not anyone's clips",
        }
    }
}

/// What `sample.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleInfo {
    /// "rendered sample, not …".
    pub note: String,
    /// The layout rendered.
    pub layout: Layout,
    /// Seed of everything random in it.
    pub seed: u64,
    /// [`VERSION`] of the renderer.
    pub version: u32,
    /// Versions of libav that encoded it.
    pub libav: String,
    /// Number of clips.
    pub clips: usize,
    /// SHA-256 of `digests.csv`: of all frames before encoding.
    pub digest: String,
}

impl SampleInfo {
    /// Reads `sample.json` in a dataset's folder or the one above it.
    ///
    /// # Errors
    /// A file that cannot be read: without it clips that were rendered would pass for others.
    pub fn find(root: &Path) -> Result<Option<Self>> {
        for dir in [root, root.parent().unwrap_or(root)] {
            let path = dir.join(INFO);
            match fs::read(&path) {
                Ok(text) => {
                    let info = serde_json::from_slice(&text);
                    return info.map(Some).map_err(|error| Error::corrupt(&path, error.to_string()));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        Ok(None)
    }
}
