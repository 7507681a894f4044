//! The model card: what a model was trained on, how it scored, what it may be used for.

use super::About;
use super::scores::Score;
use crate::record::{DataKind, FINAL};
use crate::text::thousands;
use candle_core::Tensor;
use std::fmt::Write as _;
use tt_rnn::folder::{Config, FpsRule, Frames};

/// The card of a model, Markdown.
pub(super) fn card(config: &Config, about: &About, weights: &[(String, Tensor)]) -> String {
    let count: usize = weights.iter().map(|(_, tensor)| tensor.elem_count()).sum();
    let input: usize = weights
        .iter()
        .filter(|(name, _)| {
            name.trim_start_matches("layer.1.back.").starts_with("input.") && name != "input.bias"
        })
        .map(|(_, tensor)| tensor.elem_count())
        .sum();
    let mut text = format!(
        "# {} of {}\n\nA classifier of video clips: {} weights, {} of them between pixels and hidden units.\n\n",
        config.model,
        literal(&about.experiment),
        thousands(count),
        thousands(input)
    );
    let frames = &config.frames;
    let rule = match frames.fps_rule {
        FpsRule::Exactly => "at",
        FpsRule::AtMost => "at no more than",
    };
    let _ = write!(
        text,
        "- **Input**: frames of {} × {} pixels {rule} {} a second, red, green and blue as bytes, stretched to that \
         size ({} scaling){}.\n- **Output**: {} {}.\n- **Files**: `model.safetensors` (weights), `config.json` (all \
         that is needed to use them); names and shapes are in `docs/export.md` of the project.\n\n",
        frames.width,
        frames.height,
        frames.fps,
        frames.scaler,
        sampling(frames),
        if config.multi_label { "a probability for each of" } else { "probabilities that sum to 1, of" },
        classes(&config.classes)
    );
    let _ = write!(text, "## Trained on\n\n{}.", literal(&about.data));
    if about.data_kind == DataKind::Sample {
        text.push_str(" These clips are drawn by a program; no camera took one.");
    }
    let held_back = if about.protocol == FINAL {
        "no clip was held back".to_owned()
    } else {
        format!("fold {} of protocol `{}` was held back", about.fold, about.protocol)
    };
    let _ = write!(
        text,
        " {} clips, {} epoch{}, recipe `{}`, seed {}; {held_back}. Data {}, commit {}.\n\n",
        thousands(about.clips),
        about.epochs,
        if about.epochs == 1 { "" } else { "s" },
        about.recipe,
        about.seed,
        short(&about.data_digest),
        about.commit.as_deref().map_or("not known".into(), short)
    );
    text.push_str("## Score on clips that were not trained on\n\n");
    text.push_str(&scores(about));
    let _ = write!(text, "\n## Use\n\n{}\n", usage(about));
    text
}

/// Which of a clip's frames are read, where it is not all of them.
fn sampling(frames: &Frames) -> String {
    let every = if frames.every > 1 { format!("; one frame of {}", frames.every) } else { String::new() };
    match frames.max_frames {
        0 => every,
        most => format!("{every}; of a longer clip {} {most} frames", frames.window),
    }
}

fn scores(about: &About) -> String {
    if about.scores.is_empty() {
        return "None: nothing was held back, and no model that was trained alike has been tested.\n".into();
    }
    let mut text =
        "| of | protocol | metric | score | 95 % interval | test clips |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for score in &about.scores {
        let Score { protocol, metric, value, folds, test_clips, .. } = score;
        let interval =
            score.interval.map_or("–".to_owned(), |(low, high)| format!("{low:.3} to {high:.3}"));
        let of = match (score.of_this_model, *folds) {
            (true, _) => "this model".to_owned(),
            (false, 1) => "models trained alike".to_owned(),
            (false, folds) => format!("models trained alike, mean of {folds} folds"),
        };
        let _ = writeln!(text, "| {of} | {protocol} | {metric} | {value:.3} | {interval} | {test_clips} |");
    }
    text.push_str(if about.scores.iter().any(|score| score.protocol == "groups") {
        "\nProtocol `groups` tests on people and scenes that no training clip shows: expect that of new clips.\n"
    } else {
        "\nNo group was held back: on people and scenes that no training clip shows, expect less. `--protocol \
         groups` measures it.\n"
    });
    text
}

fn usage(about: &About) -> String {
    let data = match about.data_kind {
        DataKind::Sample => {
            "An example: its classes are patterns that a program draws, and it knows nothing of the world. To try out \
             loaders, exporters and pages."
        }
        _ => {
            "For clips like those it was trained on. It gives a probability to its classes for any frames, those of \
             other things too, and it was tested on no clip outside of its data set. The licence of the clips may bind \
             what was trained on them."
        }
    };
    format!("{data}\n\n```\ncargo xtask predict DIR clip.mp4\n```")
}

fn classes(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(20).map(|name| literal(name)).collect();
    let more = if names.len() > 20 { ", …" } else { "" };
    format!("{} classes: {}{more}", names.len(), shown.join(", "))
}

/// A name as it is, whatever it means in Markdown: folders are called as people like.
fn literal(name: &str) -> String {
    let mut plain = String::new();
    for character in name.chars() {
        match character {
            '\'' | '"' | '\\' => plain.push(character),
            _ => plain.extend(character.escape_debug()),
        }
    }
    let mut text = String::new();
    let mut before = ' ';
    let mut characters = plain.chars().peekable();
    while let Some(character) = characters.next() {
        // Within a word an underscore means nothing.
        let within = before.is_alphanumeric() && characters.peek().is_some_and(|next| next.is_alphanumeric());
        if "\\`*[]<>|~&#!$".contains(character) || (character == '_' && !within) {
            text.push('\\');
        }
        text.push(character);
        before = character;
    }
    text
}

fn short(digest: &str) -> String {
    format!("`{}`", digest.get(..12).unwrap_or(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_are() {
        assert_eq!(literal("golf_swing (2), Müller's"), "golf_swing (2), Müller's");
        assert_eq!(literal("_a_ | <b>*c*</b>"), r"\_a\_ \| \<b\>\*c\*\</b\>");
        assert_eq!(literal("[x](y)\n`z`"), r"\[x\](y)\\n\`z\`");
    }
}
