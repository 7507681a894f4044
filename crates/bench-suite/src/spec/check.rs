//! Checks values before anything is built.

use super::error::{Result, SpecError, nearest_or};
use super::fields::{DataSpec, ModelSpec, Spec};
use super::names::{CROP, FORMAT_NAMES, MIRROR, MODEL_NAMES, ON_FEATURES, format_of};
use crate::pretrained;
use crate::record::FINAL;

/// Names of the loaders.
const LOADERS: [&str; 5] = ["ucf11", "hollywood2", "youtube-celebrities", "folder", "rows"];
/// Terms of `bt` at most: publications have up to 8.
const MOST_BLOCKS: usize = 256;
/// Layers at most: what more would hold is a slip of the finger.
const MOST_LAYERS: usize = 64;
/// Ranks at most: counts of numbers stay whole numbers of a machine.
const HIGHEST_RANK: usize = 1 << 16;
/// Units at most, for the same reason.
const MOST_UNITS: usize = 1 << 16;
/// Pixels of a side, or numbers of a row, at most.
const MOST_PIXELS: usize = 1 << 20;
/// Folds, and frames of an MLP, at most.
const MOST_FOLDS: usize = 1 << 16;
/// Bands of a row of sound.
const BANDS: std::ops::RangeInclusive<usize> = 4..=64;
/// Rows of sound a second at most: of more, the lowest bands would have no bin of their own.
const MOST_ROWS: u32 = 50;
/// Samples of sound a second, as workers have them.
const SAMPLES: u32 = 16_000;
/// Models for which pixels have neighbours.
const OF_PICTURES: [&str; 6] =
    ["stacked-frames", "pooled-gru-small", "pooled-gru", "cnn-gru", "cnn-lstm", "attention-lstm"];

/// Refuses a list of nothing, and what is named twice.
fn once<T: PartialEq + ToString>(key: &'static str, values: &[T]) -> Result<()> {
    if values.is_empty() {
        return Err(SpecError::Value { key, value: "[]".into(), reason: "leaves nothing to train".into() });
    }
    let repeated = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value));
    match repeated {
        Some((_, value)) => {
            Err(SpecError::Value { key, value: value.to_string(), reason: "is named twice".into() })
        }
        None => Ok(()),
    }
}

impl Spec {
    pub(super) fn check(&self) -> Result<()> {
        let names = self.model.names.iter().chain(self.train.epochs.keys()).chain(self.train.model_lr.keys());
        for name in names {
            nearest_or("model", name, MODEL_NAMES)?;
        }
        once("model.names", &self.model.names)?;
        once("train.seeds", &self.train.seeds)?;
        for folds in self.protocol.run_folds.values() {
            once("protocol.run_folds", folds)?;
        }
        nearest_or("protocol", &self.protocol.kind, &["clips", "groups", "official", FINAL])?;
        nearest_or("dataset", &self.data.dataset, &LOADERS)?;
        if !self.data.render.is_empty() {
            let layouts = ["ucf11", "ucf11-rehearsal", "hollywood2", "youtube-celebrities", "folder"];
            nearest_or("data.render", &self.data.render, &layouts)?;
        }
        nearest_or("data.window", &self.data.window, &["first", "even", "random"])?;
        nearest_or("model.gates", &self.model.gates, &["concatenated", "separate"])?;
        nearest_or(
            "model.core_init",
            &self.model.core_init,
            &["glorot1d", "orthogonal", "variance-matched"],
        )?;
        let backends = ["fused", "fused-f32", "vnni", "amx", "ops", "reference"];
        nearest_or("model.backend", &self.model.backend, &backends)?;
        nearest_or("model.recurrent", &self.model.recurrent, &[&["dense"], FORMAT_NAMES].concat())?;
        nearest_or("model.cnn", &self.model.cnn, &["small", "large"])?;
        nearest_or("model.cnn_kernels", &self.model.cnn_kernels, &["dense", "tt", "cp"])?;
        nearest_or("model.readout", &self.model.readout, &["last", "mean", "max"])?;
        nearest_or("model.gate_activation", &self.model.gate_activation, &["hard-sigmoid", "sigmoid"])?;
        nearest_or("train.dense_masks", &self.train.dense_masks, &["shared", "per-gate"])?;
        nearest_or("train.standardize", &self.train.standardize, &["none", "all", "feature"])?;
        nearest_or("train.lr_rule", &self.train.lr_rule, &["fan-in", "single"])?;
        self.check_sound()?;
        self.check_rows()?;
        self.check_features()?;
        self.check_augment()?;
        self.check_numbers()?;
        self.check_modes()?;
        self.check_window()?;
        self.check_padding()?;
        self.check_factors()
    }

    /// Takes what the files of rows hold.
    ///
    /// # Errors
    /// Rows of another size or other numbers than `data.width` and `data.element` ask for, and settings that do not fit them.
    pub fn adopt_rows(&mut self, width: usize, element: &str) -> Result<()> {
        let asked = self.data.width;
        if asked != 0 && asked != width {
            let reason = format!("most files have rows of {width} numbers; 0 takes what they have");
            return Err(SpecError::Value { key: "data.width", value: asked.to_string(), reason });
        }
        let asked = &self.data.element;
        if !asked.is_empty() && asked != element {
            let reason = format!("most files hold {element}: leave it out");
            return Err(SpecError::Value { key: "data.element", value: asked.clone(), reason });
        }
        self.data.width = width;
        element.clone_into(&mut self.data.element);
        self.check()
    }

    /// Rows of sound: bands that an FFT of a row's window can tell apart, and rows that samples divide into.
    fn check_sound(&self) -> Result<()> {
        let DataSpec { audio, dataset, fps, width, .. } = &self.data;
        let wrong = |key, value: &dyn std::fmt::Display, reason: String| {
            Err(SpecError::Value { key, value: value.to_string(), reason })
        };
        match audio.as_str() {
            "" => return Ok(()),
            "logmel" => {}
            _ => return wrong("data.audio", audio, "is logmel, or left out for pictures".into()),
        }
        if dataset != "folder" {
            return wrong(
                "data.audio",
                audio,
                format!("is of loader folder, and {dataset} reads pictures or rows"),
            );
        }
        if !BANDS.contains(width) {
            let (least, most) = (BANDS.start(), BANDS.end());
            return wrong("data.width", width, format!("is the bands of a row of sound: {least} to {most}"));
        }
        if !(1..=MOST_ROWS).contains(fps) || !SAMPLES.is_multiple_of(*fps) {
            let reason =
                format!("rows of sound a second must divide {SAMPLES} samples and be at most {MOST_ROWS}");
            return wrong("data.fps", fps, reason);
        }
        Ok(())
    }

    /// Settings of pictures with rows, and the other way round.
    fn check_rows(&self) -> Result<()> {
        let DataSpec { element, height, render, redistributable, .. } = &self.data;
        let wrong = |key, value: &dyn std::fmt::Display, reason: &str| {
            Err(SpecError::Value { key, value: value.to_string(), reason: reason.into() })
        };
        if !["", "u8", "f32"].contains(&element.as_str()) {
            return wrong("data.element", element, "is u8 or f32, and left out until the files are read");
        }
        if !self.has_rows() {
            return match element.as_str() {
                "" => Ok(()),
                _ => wrong("data.element", element, "is of loader rows: leave it out"),
            };
        }
        if *height != 1 {
            return wrong("data.height", height, "must be 1 with loader rows");
        }
        if !render.is_empty() {
            return wrong(
                "data.render",
                render,
                "renders pictures, and loader rows reads none: leave it empty",
            );
        }
        if *redistributable {
            return wrong(
                "data.redistributable",
                redistributable,
                "is of pictures, and rows are not shown: false",
            );
        }
        match self.model.names.iter().find(|name| OF_PICTURES.contains(&name.as_str())) {
            Some(name) => wrong("model.names", name, "reads the pixels of pictures, and rows have none"),
            None => Ok(()),
        }
    }

    /// Features of a pretrained network are of pictures that it can see.
    fn check_features(&self) -> Result<()> {
        let name = &self.model.pretrained;
        if !pretrained::is_name(name) {
            let reason = "is lite0, or the first 12 digits of the SHA-256 of a file that cargo xtask setup --pretrained \
                          FILE has taken";
            let (key, value, reason) = ("model.pretrained", name.clone(), reason.into());
            return Err(SpecError::Value { key, value, reason });
        }
        if !self.reads_features() {
            return Ok(());
        }
        let least = pretrained::SMALLEST;
        if self.has_rows() {
            let reason = "reads features of pictures, and rows are none".into();
            return Err(SpecError::Value { key: "model.names", value: ON_FEATURES.into(), reason });
        }
        for (key, pixels) in [("data.width", self.data.width), ("data.height", self.data.height)] {
            if pixels < least {
                let reason = format!(
                    "must be at least {least} with {ON_FEATURES}, whose network halves it five times"
                );
                return Err(SpecError::Value { key, value: pixels.to_string(), reason });
            }
        }
        Ok(())
    }

    /// Views are of pictures that a model reads as it is trained.
    fn check_augment(&self) -> Result<()> {
        for name in &self.train.augment {
            nearest_or("train.augment", name, &[MIRROR, CROP])?;
        }
        let reason = if self.train.augment.is_empty() {
            return Ok(());
        } else if self.has_rows() {
            "is of pictures, and rows have no sides: leave it out"
        } else if self.reads_features() {
            "is of pictures, and the features that frozen-cnn-gru reads were computed of them before: leave one of the two \
             out"
        } else {
            return Ok(());
        };
        let (key, value) = ("train.augment", Vec::from_iter(self.train.augment.clone()).join(", "));
        Err(SpecError::Value { key, value, reason: reason.into() })
    }

    /// A window that nothing cuts.
    fn check_window(&self) -> Result<()> {
        if self.data.window == "first" || self.data.max_frames > 0 {
            return Ok(());
        }
        let (key, value) = ("data.window", self.data.window.clone());
        let reason =
            "says which frames of a longer clip are used: set data.max_frames to how many, or leave it out";
        Err(SpecError::Value { key, value, reason: reason.into() })
    }

    /// The padding of the released scripts is that of their models.
    fn check_padding(&self) -> Result<()> {
        let ModelSpec { layers, bidirectional, readout, .. } = &self.model;
        if self.train.warm_up_to > 0 && (*layers > 1 || *bidirectional || readout != "last") {
            return Err(SpecError::Value {
                key: "train.warm_up_to",
                value: self.train.warm_up_to.to_string(),
                reason: "steps without input are known for one layer that reads forward and gives its last state: set it \
                         to 0, or leave model.layers, model.bidirectional and model.readout out"
                    .into(),
            });
        }
        Ok(())
    }

    fn check_modes(&self) -> Result<()> {
        if self.model.output_modes.is_empty() || self.model.output_modes.contains(&0) {
            let reason = "one number or more, each at least 1: their product is the number of units".into();
            let (key, value) = ("model.output_modes", format!("{:?}", self.model.output_modes));
            return Err(SpecError::Value { key, value, reason });
        }
        let frame = self.features();
        if self.has_rows() && frame == 0 {
            // Known once the files are read; then this is asked again.
            return Ok(());
        }
        let product = |key, modes: &[usize], expected: usize, of: &str| {
            let found: usize = modes.iter().product();
            // Left open: filled in when the run is planned.
            if found == expected || modes.is_empty() {
                return Ok(());
            }
            let reason = format!(
                "the modes must multiply to {expected} ({of}), but their product is {found}; [] plans them"
            );
            Err(SpecError::Value { key, value: format!("{modes:?}"), reason })
        };
        let size = if self.has_rows() {
            "the numbers of a row".to_owned()
        } else {
            format!("{} x {} x 3", self.data.width, self.data.height)
        };
        product("model.input_modes", &self.model.input_modes, frame, &size)?;
        let frames = self.model.mlp_frames;
        let of = format!("{frames} frames of {size}");
        product("model.mlp_input_modes", &self.model.mlp_input_modes, frames * frame, &of)?;
        Ok(())
    }

    /// A rank of U or of kernels that nothing reads, or that is missing.
    fn check_factors(&self) -> Result<()> {
        let ModelSpec { recurrent, recurrent_rank, cnn_kernels, cnn_rank, .. } = &self.model;
        for (what, of_form, form, key, rank) in [
            ("a factorized U", "model.recurrent", recurrent, "model.recurrent_rank", recurrent_rank),
            ("factorized kernels", "model.cnn_kernels", cnn_kernels, "model.cnn_rank", cnn_rank),
        ] {
            let reason = match (form == "dense", *rank) {
                (true, 1..) => format!("is of {what}: set {of_form} to its format, or leave it out"),
                (false, 0) => format!("must be at least 1 where {of_form} is not \"dense\""),
                _ => continue,
            };
            return Err(SpecError::Value { key, value: rank.to_string(), reason });
        }
        Ok(())
    }

    /// Terms and budgets beyond what a full matrix has.
    fn check_size_of_formats(&self) -> Result<()> {
        let ModelSpec { names, input_weights, blocks, ranks, output_modes, mlp_frames, .. } = &self.model;
        if *input_weights > 0 && !ranks.is_empty() {
            let reason =
                "model.input_weights decides the ranks of every format: leave one of the two out".into();
            let value = ranks.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(SpecError::Value { key: "model.ranks", value, reason });
        }
        let ranks = ranks.values().flatten();
        let at_most = [
            ("model.blocks", *blocks, MOST_BLOCKS),
            ("model.layers", self.model.layers, MOST_LAYERS),
            ("model.dense_hidden", self.model.dense_hidden, MOST_UNITS),
            ("model.rank", self.model.rank, HIGHEST_RANK),
            ("model.mlp_rank", self.model.mlp_rank, HIGHEST_RANK),
            ("model.recurrent_rank", self.model.recurrent_rank, HIGHEST_RANK),
        ];
        for (key, value, most) in
            at_most.into_iter().chain(ranks.map(|rank| ("model.ranks", *rank, HIGHEST_RANK)))
        {
            if value > most {
                let reason = format!("must be at most {most}");
                return Err(SpecError::Value { key, value: value.to_string(), reason });
            }
        }
        let columns: usize = output_modes.iter().product();
        for name in names {
            let times = match format_of(name) {
                Some((_, "rnn")) => 1,
                Some((_, "gru")) => 3,
                Some((_, "lstm")) => 4,
                Some((_, "mlp")) => *mlp_frames,
                _ => continue,
            };
            let full = self.features().saturating_mul(columns).saturating_mul(times);
            if full > 0 && *input_weights > full {
                let reason = format!("{name} has {full} in a full matrix: ask for fewer");
                let (key, value) = ("model.input_weights", input_weights.to_string());
                return Err(SpecError::Value { key, value, reason });
            }
        }
        Ok(())
    }

    /// Numbers whose products must be numbers still.
    fn check_sizes(&self) -> Result<()> {
        let counts = [
            ("data.width", self.data.width, MOST_PIXELS),
            ("data.height", self.data.height, MOST_PIXELS),
            ("protocol.folds", self.protocol.folds, MOST_FOLDS),
            ("model.mlp_frames", self.model.mlp_frames, MOST_FOLDS),
        ];
        for (key, value, most) in counts {
            if value > most {
                let reason = format!("must be at most {most}");
                return Err(SpecError::Value { key, value: value.to_string(), reason });
            }
        }
        for (key, modes) in [
            ("model.input_modes", &self.model.input_modes),
            ("model.output_modes", &self.model.output_modes),
            ("model.mlp_input_modes", &self.model.mlp_input_modes),
        ] {
            let product =
                modes.iter().try_fold(1_u32, |product, mode| product.checked_mul(u32::try_from(*mode).ok()?));
            if product.is_none() {
                let reason = format!("the product of the modes must be at most {}", u32::MAX);
                return Err(SpecError::Value { key, value: format!("{modes:?}"), reason });
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        let at_least_one = [
            ("model.rank", self.model.rank),
            ("model.mlp_rank", self.model.mlp_rank),
            ("model.blocks", self.model.blocks),
            ("model.dense_hidden", self.model.dense_hidden),
            ("model.layers", self.model.layers),
            ("model.mlp_frames", self.model.mlp_frames),
            ("data.fps", self.data.fps as usize),
            ("data.every", self.data.every),
            ("train.batch", self.train.batch),
            ("train.eval_every", self.train.eval_every),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(SpecError::Value { key, value: "0".into(), reason: "must be at least 1".into() });
            }
        }
        self.check_sizes()?;
        self.check_size_of_formats()?;
        let shares = [
            ("train.recurrent_dropout", self.train.recurrent_dropout),
            ("train.dense_input_dropout", self.train.dense_input_dropout),
            ("train.tt_input_dropout", self.train.tt_input_dropout),
            ("train.settled", self.train.settled),
            ("protocol.hold_out", self.protocol.hold_out),
        ];
        for (key, value) in shares {
            if !(0.0..1.0).contains(&value) {
                let reason = "must be at least 0 and below 1".into();
                return Err(SpecError::Value { key, value: value.to_string(), reason });
            }
        }
        let factors = [
            ("train.weight_decay", self.train.weight_decay),
            ("train.attention_penalty", self.train.attention_penalty),
            ("train.classifier_l2", self.train.classifier_l2),
            ("train.clip_norm", self.train.clip_norm),
        ];
        for (key, value) in factors {
            if !(value.is_finite() && value >= 0.0) {
                let reason = "must be a number of at least 0".into();
                return Err(SpecError::Value { key, value: value.to_string(), reason });
            }
        }
        if !self.train.pixel_shift.is_finite() {
            let (key, value) = ("train.pixel_shift", self.train.pixel_shift.to_string());
            return Err(SpecError::Value { key, value, reason: "must be a number".into() });
        }
        let mut positive = vec![
            ("train.lr", self.train.lr),
            ("train.input_lr_factor", self.train.input_lr_factor),
            ("train.pixel_scale", self.train.pixel_scale.abs()),
        ];
        positive.extend(self.train.model_lr.values().map(|rate| ("train.model_lr", *rate)));
        for (key, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                let reason = "must be a positive number".into();
                return Err(SpecError::Value { key, value: value.to_string(), reason });
            }
        }
        self.check_folds()
    }

    fn check_folds(&self) -> Result<()> {
        // Neither protocol deals folds, and `final` holds nothing out.
        let split_or_all = ["official", FINAL].contains(&self.protocol.kind.as_str());
        if !split_or_all && self.protocol.hold_out > 0.0 {
            let reason =
                "it cuts the end off the list of training clips, which is sorted by class: only the \
                          lists of protocol official can take it; --set protocol.hold_out=0 trains on all"
                    .into();
            let value = self.protocol.hold_out.to_string();
            return Err(SpecError::Value { key: "protocol.hold_out", value, reason });
        }
        if self.fold_count() < 2 && !split_or_all {
            let value = self.protocol.folds.to_string();
            return Err(SpecError::Value {
                key: "protocol.folds",
                value,
                reason: "must be at least 2".into(),
            });
        }
        for fold in self.model.names.iter().flat_map(|name| self.folds(name)) {
            let folds = self.fold_count();
            if fold >= folds {
                let reason = format!("folds are numbered from 0 to {}", folds - 1);
                return Err(SpecError::Value { key: "--folds", value: fold.to_string(), reason });
            }
        }
        for name in &self.model.names {
            if self.epochs(name) == 0 {
                let reason = format!(
                    "model {name:?} needs at least 1 epoch: --epochs N, or train.epochs.{name} in the TOML"
                );
                return Err(SpecError::Value { key: "train.epochs", value: "0".into(), reason });
            }
        }
        Ok(())
    }
}
