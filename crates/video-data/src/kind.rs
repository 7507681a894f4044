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
    /// Anyone's sequences of rows: `DIR/<class>/<group>/<name>.npy`.
    Rows,
    /// The sound of anyone's clips, or files of sound in their places.
    Sound,
}

impl Kind {
    /// Every layout.
    pub const ALL: [Self; 6] =
        [Self::Ucf11, Self::Hollywood2, Self::YoutubeCelebrities, Self::Folder, Self::Rows, Self::Sound];

    /// The name used on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ucf11 => "ucf11",
            Self::Hollywood2 => "hollywood2",
            Self::YoutubeCelebrities => "youtube-celebrities",
            Self::Folder => "folder",
            Self::Rows => "rows",
            Self::Sound => "sound",
        }
    }

    /// The layout of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is somebody's own data, in folders by class, and no dataset with a name.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Folder | Self::Rows | Self::Sound)
    }

    /// The frames that the paper takes from this dataset (`folder`: 160×120 at the native rate, at most 24; `rows`: a row of
    /// one byte, since only the files tell; `sound`: 64 bands, 25 rows a second).
    pub fn frame_spec(self) -> FrameSpec {
        match self {
            Self::Ucf11 => FrameSpec::rgb(160, 120, Rate::Exactly(24)),
            Self::Hollywood2 => FrameSpec::rgb(234, 100, Rate::Exactly(12)),
            Self::YoutubeCelebrities => FrameSpec::rgb(160, 120, Rate::Exactly(12)),
            Self::Folder => FrameSpec::rgb(160, 120, Rate::AtMost(24)),
            Self::Rows => FrameSpec::rows(Content::Bytes, 1),
            Self::Sound => FrameSpec::sound(64, 25),
        }
    }
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Pixels of three bytes.
    #[default]
    Rgb,
    /// A row of bytes.
    Bytes,
    /// A row of f32, little-endian.
    Floats,
    /// A row of f32 that a worker makes of a clip's sound: log-mel energies.
    LogMel,
}

impl Content {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_rgb(&self) -> bool {
        *self == Self::Rgb
    }

    /// Bytes of a number.
    pub fn number_bytes(self) -> usize {
        if self.is_floats() { 4 } else { 1 }
    }

    /// Whether numbers are f32, and not bytes.
    pub fn is_floats(self) -> bool {
        matches!(self, Self::Floats | Self::LogMel)
    }

    /// Whether FFmpeg decodes it.
    pub(crate) fn is_decoded(self) -> bool {
        matches!(self, Self::Rgb | Self::LogMel)
    }
}

/// Size and rate of the stored frames.
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
    /// What a frame holds.
    #[serde(default, skip_serializing_if = "Content::is_rgb")]
    pub content: Content,
}

impl FrameSpec {
    /// Pictures of a size and rate, not strict.
    pub const fn rgb(width: u32, height: u32, rate: Rate) -> Self {
        Self { width, height, rate, strict: false, content: Content::Rgb }
    }

    /// Rows of so many numbers.
    pub const fn rows(content: Content, width: u32) -> Self {
        Self { width, height: 1, rate: Rate::Native, strict: false, content }
    }

    /// The sound in so many bands, so many rows a second.
    pub const fn sound(bands: u32, per_second: u32) -> Self {
        let rate = Rate::Exactly(per_second);
        Self { width: bands, height: 1, rate, strict: false, content: Content::LogMel }
    }

    /// Numbers of one frame, M: H·W·C of pictures.
    pub fn numbers(&self) -> usize {
        self.width as usize * self.height as usize * if self.content == Content::Rgb { 3 } else { 1 }
    }

    /// Bytes of one frame.
    pub fn frame_bytes(&self) -> usize {
        self.numbers() * self.content.number_bytes()
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
