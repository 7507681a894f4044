//! What selects data, cells and settings of a run.

use std::ffi::OsString;
use std::path::PathBuf;

use bench_suite::device::{DeviceName, Precision};
use bench_suite::record::FINAL;
use bench_suite::spec::{FORMAT_PREFIXES, Overrides};
use clap::Args;

fn models_help() -> String {
    format!(
        "Models to train: tt-mlp, gru, lstm, rnn; behind {FORMAT_PREFIXES} gru, lstm, rnn or mlp with a factorized \
         input matrix; controls: mean-frame, stacked-frames, pooled-gru-small, pooled-gru, projected-gru, \
         tt-gru-frozen; on features of a network trained on ImageNet: frozen-cnn-gru; on what a CNN sees, trained \
         with it: cnn-gru, cnn-lstm, attention-lstm"
    )
}

/// What selects data, cells and settings; passed on to `bench-suite` word for word.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Selection {
    /// The dataset's folder or its parent [default: data/<experiment>/, else a rendered sample]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Folder under results/ [default: the experiment's name; for `folder` and `rows` the name of the --data folder, for `sound` that behind `sound-`]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// List of the clips to use with labels, groups and split: a CSV, or the official lists of UCF101 and HMDB51
    #[arg(long, value_name = "FILE")]
    pub(crate) split: Option<PathBuf>,
    /// Use the rendered sample, even where data/ holds clips
    #[arg(long, conflicts_with_all = ["data", "split", "allow_partial"])]
    pub(crate) sample: bool,
    #[arg(long, value_name = "A,B", value_delimiter = ',', help = models_help())]
    pub(crate) models: Vec<String>,
    /// Folds to run, counted from 0
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    pub(crate) folds: Vec<usize>,
    /// Epochs of every model
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Training recipe: scaled, scaled-single or paper-code
    #[arg(long, value_name = "R")]
    pub(crate) recipe: Option<String>,
    /// How clips are split: clips (folds over clips, as in the paper), groups, or official
    #[arg(long, value_name = "P")]
    pub(crate) protocol: Option<String>,
    /// Train on all clips, without a score; the model [default: tt-gru] is kept in data/models/
    #[arg(long = "final", conflicts_with_all = ["folds", "protocol"])]
    pub(crate) final_model: bool,
    /// Seed of every random stream
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub(crate) seed: Option<u64>,
    /// Several seeds; scores are averaged over them within each fold
    #[arg(long, value_name = "0,1,2", value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    /// Override a key of the experiment's TOML; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Accept an official dataset with clips missing; the results are labelled so
    #[arg(long)]
    pub(crate) allow_partial: bool,
    /// Device to train on: cpu, cuda, cuda:N, metal, or auto for a card where one is ready
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// Precision of products on a CUDA card: f32, or tf32 or bf16 for speed (errors: docs/performance.md)
    #[arg(long, value_name = "P", default_value = "f32")]
    pub(crate) precision: Precision,
}

impl Selection {
    /// The flags as a specification takes them: what is wrong with them is found before anything is built.
    pub(crate) fn overrides(&self) -> Overrides {
        let seeds = self.seed.map_or_else(|| self.seeds.clone(), |seed| vec![seed]);
        Overrides {
            recipe: self.recipe.clone(),
            models: self.models.clone(),
            folds: self.folds.clone(),
            seeds,
            epochs: self.epochs,
            protocol: self.protocol.clone(),
            set: self.set.clone(),
        }
    }

    /// The flags as `bench-suite` takes them; `--data` made absolute, since children run in the repository.
    pub(crate) fn flags(&self, experiment: &str) -> std::io::Result<Vec<OsString>> {
        let mut flags: Vec<OsString> = vec!["--experiment".into(), experiment.into()];
        let mut push = |name: &str, value: String| {
            if !value.is_empty() {
                flags.extend([name.into(), value.into()]);
            }
        };
        let join = |values: Vec<String>| values.join(",");
        push("--name", self.name.clone().unwrap_or_default());
        push("--models", join(self.models.clone()));
        push("--folds", join(self.folds.iter().map(ToString::to_string).collect()));
        push("--epochs", self.epochs.map_or_else(String::new, |n| n.to_string()));
        push("--recipe", self.recipe.clone().unwrap_or_default());
        push("--protocol", self.protocol.clone().unwrap_or_default());
        push("--seed", self.seed.map_or_else(String::new, |n| n.to_string()));
        push("--seeds", join(self.seeds.iter().map(ToString::to_string).collect()));
        for assignment in &self.set {
            push("--set", assignment.clone());
        }
        if self.allow_partial {
            flags.push("--allow-partial".into());
        }
        if self.device != DeviceName::Cpu {
            flags.extend(["--device".into(), self.device.to_string().into()]);
        }
        if self.precision != Precision::F32 {
            flags.extend(["--precision".into(), self.precision.to_string().into()]);
        }
        if let Some(dir) = &self.data {
            flags.extend(["--data".into(), std::path::absolute(dir)?.into_os_string()]);
        }
        if let Some(list) = &self.split {
            flags.extend(["--split".into(), std::path::absolute(list)?.into_os_string()]);
        }
        Ok(flags)
    }

    /// The command line that repeats a run, for a POSIX shell; a folder of clips is `DIR`, their list `FILE`.
    pub(crate) fn command_line(&self, experiment: &str) -> String {
        let mut line = format!("cargo xtask reproduce {experiment}");
        let is_final = self.protocol.as_deref() == Some(FINAL);
        let protocol = self.protocol.clone().filter(|_| !is_final);
        let rest =
            Self { data: None, split: None, protocol, ..self.clone() }.flags(experiment).unwrap_or_default();
        // The first two say which experiment.
        let plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.,=/:".contains(c));
        for word in rest.iter().skip(2).map(|word| word.to_string_lossy()) {
            let quote = if plain(&word) { "" } else { "'" };
            line.extend([" ", quote, &word.replace('\'', r"'\''"), quote]);
        }
        if is_final {
            line.push_str(" --final");
        }
        if self.data.is_some() {
            line.push_str(" --data DIR");
        }
        if self.split.is_some() {
            line.push_str(" --split FILE");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, Reproduce, Verb};
    use clap::Parser;

    fn reproduce(line: &str) -> Reproduce {
        let Verb::Reproduce(args) = Cli::parse_from(line.split_whitespace()).verb else { panic!("verb") };
        args
    }

    #[test]
    fn flags_reach_the_engine_word_for_word() {
        let line = "xtask reproduce ucf11 --models gru,tt-gru --folds 0,2 --epochs 3 --set model.rank=5 \
                    --set a=b --seeds 0,1 --protocol groups --allow-partial --jobs 2";
        let r = reproduce(line);
        let flags: Vec<String> =
            r.selection.flags(&r.experiment).unwrap().into_iter().map(|f| f.into_string().unwrap()).collect();
        assert_eq!(
            flags.join(" "),
            "--experiment ucf11 --models gru,tt-gru --folds 0,2 --epochs 3 --protocol groups \
             --seeds 0,1 --set model.rank=5 --set a=b --allow-partial"
        );
        let line =
            "xtask reproduce folder --data /some/where --split /l.csv --set model.names=[\"gru\"] --folds 0";
        let r = reproduce(line);
        assert_eq!(
            r.selection.command_line("folder"),
            "cargo xtask reproduce folder --folds 0 --set 'model.names=[\"gru\"]' --data DIR --split FILE"
        );
    }
}
