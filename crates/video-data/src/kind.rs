//! What a dataset is: its layout, its frames, how it is scored and split.

use serde::{Deserialize, Serialize};

use crate::rate::Rate;

/// A layout that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// UCF11 (YouTube Action).
    Ucf11,
    /// Hollywood2 actions.
    Hollywood2,
    /// YouTube Celebrities.
    YoutubeCelebrities,
    /// Anyone's clips: `DIR/<class>/<group>/<clip>.*`.
    Folder,
}

impl Kind {
    /// Every layout.
    pub const ALL: [Self; 4] = [Self::Ucf11, Self::Hollywood2, Self::YoutubeCelebrities, Self::Folder];

    /// The name used on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ucf11 => "ucf11",
            Self::Hollywood2 => "hollywood2",
            Self::YoutubeCelebrities => "youtube-celebrities",
            Self::Folder => "folder",
        }
    }

    /// The layout of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The frames that the paper takes from this dataset (`folder`: 160×120 at the native rate, at most 24).
    pub fn frame_spec(self) -> FrameSpec {
        match self {
            Self::Ucf11 => FrameSpec { width: 160, height: 120, rate: Rate::Exactly(24), strict: false },
            Self::Hollywood2 => FrameSpec { width: 234, height: 100, rate: Rate::Exactly(12), strict: false },
            Self::YoutubeCelebrities => {
                FrameSpec { width: 160, height: 120, rate: Rate::Exactly(12), strict: false }
            }
            Self::Folder => FrameSpec { width: 160, height: 120, rate: Rate::AtMost(24), strict: false },
        }
    }
}

/// Size and rate of the stored frames; RGB, so that `M = height · width · 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameSpec {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Which frames are kept.
    #[serde(flatten)]
    pub rate: Rate,
    /// Whether to leave out a clip with any decoder error; otherwise it is kept and flagged if its frames are
    /// usable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

impl FrameSpec {
    /// Bytes of one frame, M = H·W·C.
    pub fn frame_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }
}

/// How a dataset is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Share of clips whose class is right.
    Accuracy,
    /// Mean over classes of the average precision.
    Map,
}

/// The part of an official split that a clip belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// To be trained on.
    Train,
    /// To be scored on.
    Test,
}
