//! The paper's numbers as data: Y. Yang, D. Krompass and V. Tresp, "Tensor-Train Recurrent Neural Networks for Video
//! Classification" (ICML 2017, arXiv 1707.01786).
//!
//! Tables and figures are numbered as in the presentation they are taken from, by M. Abdelsalam and C. Onu, 12 March
//! 2019 (`docs/paper.md`). Scores are fractions in [0, 1], seconds are seconds per training epoch.

/// The five models of the result tables, in their order.
pub const PAPER_MODELS: [&str; 5] = ["tt-mlp", "gru", "lstm", "tt-gru", "tt-lstm"];

/// TT models and the dense model that differs from them in the input-to-hidden product only.
pub const TWINS: [(&str, &str); 3] = [("tt-gru", "gru"), ("tt-lstm", "lstm"), ("tt-rnn", "rnn")];

/// What the paper says about one of its datasets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dataset {
    /// Name as in `experiments/`.
    pub name: &'static str,
    /// Name as people write it.
    pub title: &'static str,
    /// `accuracy` or `map`.
    pub metric: &'static str,
    /// Clips of the complete dataset.
    pub clips: usize,
    /// Classes (labels for Hollywood2, where a clip may carry several).
    pub classes: usize,
    /// Frame width and height in pixels after downsampling, RGB.
    pub frame: (usize, usize),
    /// Frames per second after resampling; not checked against the paper's text for YouTube Celebrities.
    pub fps: usize,
    /// Shortest clip in frames.
    pub min_frames: usize,
    /// Longest clip in frames (the maximal length of the released scripts).
    pub max_frames: usize,
    /// Mean length in frames, not checked against the paper's text; of the training half for Hollywood2.
    pub mean_frames: f64,
    /// Input modes `m_k` of the TT layer; their product is the frame size.
    pub input_modes: [usize; 4],
    /// Units of the dense GRU and LSTM that the parameter column counts (225 for YouTube Celebrities).
    pub dense_hidden: usize,
    /// Number of the figure that shows the state of the art.
    pub sota_figure: usize,
    /// The model that stands for the paper in that figure, and for this repository beside it.
    pub headline: &'static str,
    /// Folds of the paper's protocol.
    pub folds: usize,
}

/// The three datasets of the paper.
pub const DATASETS: [Dataset; 3] = [
    Dataset {
        name: "ucf11",
        title: "UCF11",
        metric: "accuracy",
        clips: 1600,
        classes: 11,
        frame: (160, 120),
        fps: 24,
        min_frames: 204,
        max_frames: 1492,
        mean_frames: 483.7,
        input_modes: [8, 20, 20, 18],
        dense_hidden: 256,
        sota_figure: 3,
        headline: "tt-gru",
        folds: 5,
    },
    Dataset {
        name: "hollywood2",
        title: "Hollywood2",
        metric: "map",
        clips: 1707,
        classes: 12,
        frame: (234, 100),
        fps: 12,
        min_frames: 29,
        max_frames: 1496,
        // 823 training clips of 134.8 frames and 884 test clips of 143.3.
        mean_frames: 139.2,
        input_modes: [10, 18, 13, 30],
        dense_hidden: 256,
        sota_figure: 5,
        headline: "tt-lstm",
        folds: 1,
    },
    Dataset {
        name: "youtube-celebrities",
        title: "YouTube Celebrities",
        metric: "accuracy",
        clips: 1910,
        classes: 47,
        frame: (160, 120),
        fps: 12,
        min_frames: 2,
        max_frames: 85,
        mean_frames: 39.9,
        input_modes: [4, 20, 20, 36],
        dense_hidden: 225,
        sota_figure: 7,
        headline: "tt-gru",
        folds: 5,
    },
];

/// A row of one of the three result tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaperResult {
    /// Name of the dataset.
    pub dataset: &'static str,
    /// Name of the model.
    pub model: &'static str,
    /// Accuracy or MAP, mean over folds.
    pub mean: f64,
    /// The paper's ± over five folds; none for Hollywood2, which has one official split.
    pub std: Option<f64>,
    /// Input-to-hidden weights.
    pub params_input: usize,
    /// The runtime column: average seconds of a training epoch on the authors' machine.
    pub epoch_s: f64,
}

const fn row(
    dataset: &'static str,
    model: &'static str,
    (mean, std): (f64, Option<f64>),
    params_input: usize,
    epoch_s: f64,
) -> PaperResult {
    PaperResult { dataset, model, mean, std, params_input, epoch_s }
}

/// The result tables.
pub const RESULTS: [PaperResult; 15] = [
    row("ucf11", "tt-mlp", (0.427, Some(0.045)), 7_680, 902.0),
    row("ucf11", "gru", (0.488, Some(0.033)), 44_236_800, 7_056.0),
    row("ucf11", "lstm", (0.492, Some(0.026)), 58_982_400, 8_892.0),
    row("ucf11", "tt-gru", (0.813, Some(0.011)), 3_232, 1_872.0),
    row("ucf11", "tt-lstm", (0.796, Some(0.035)), 3_360, 2_160.0),
    row("hollywood2", "tt-mlp", (0.103, None), 4_352, 16.0),
    row("hollywood2", "gru", (0.249, None), 53_913_600, 106.0),
    row("hollywood2", "lstm", (0.108, None), 71_884_800, 179.0),
    row("hollywood2", "tt-gru", (0.537, None), 2_944, 96.0),
    row("hollywood2", "tt-lstm", (0.546, None), 3_104, 102.0),
    row("youtube-celebrities", "tt-mlp", (0.512, Some(0.057)), 3_520, 14.0),
    row("youtube-celebrities", "gru", (0.342, Some(0.023)), 38_880_000, 212.0),
    row("youtube-celebrities", "lstm", (0.332, Some(0.033)), 51_840_000, 253.0),
    row("youtube-celebrities", "tt-gru", (0.800, Some(0.018)), 3_328, 72.0),
    row("youtube-celebrities", "tt-lstm", (0.755, Some(0.033)), 3_392, 81.0),
];

/// The machines behind [`PaperResult::epoch_s`], as the paper's table captions name them (not checked against its text).
pub const PAPER_MACHINES: &str =
    "UCF11: Intel Xeon E7-4850 v2, 2.3 GHz; Hollywood2 and YouTube Celebrities: NVIDIA Tesla K40c";

/// The dataset of that name.
pub fn dataset(name: &str) -> Option<&'static Dataset> {
    DATASETS.iter().find(|d| d.name == name)
}

/// The row for a model on a dataset.
pub fn result(dataset: &str, model: &str) -> Option<&'static PaperResult> {
    RESULTS.iter().find(|r| r.dataset == dataset && r.model == model)
}

/// Layers of Table 1 and Figure 1, in their order.
pub const RANK_LAYERS: [&str; 6] = ["fc", "ttl", "vanilla-tt-lstm", "tt-lstm", "vanilla-tt-gru", "tt-gru"];

/// Table 1 (drawn as Figure 1): rank, then the weights in the order of [`RANK_LAYERS`], for UCF11's
/// 57,600 → 256 input-to-hidden product.
pub const RANK_TABLE: [(usize, [usize; 6]); 3] = [
    (3, [14_745_600, 1_752, 7_008, 2_040, 5_256, 1_944]),
    (4, [14_745_600, 2_976, 11_904, 3_360, 8_928, 3_232]),
    (5, [14_745_600, 4_520, 18_080, 5_000, 13_560, 4_840]),
];

/// One bar of Figures 3, 5 and 7.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SotaRow {
    /// Name of the dataset.
    pub dataset: &'static str,
    /// Authors and, where told, the method in a few words.
    pub method: &'static str,
    /// Year of publication.
    pub year: u16,
    /// Accuracy or MAP.
    pub value: f64,
    /// Whether the number is the paper's own.
    pub is_paper: bool,
}

const fn sota(dataset: &'static str, method: &'static str, year: u16, value: f64, is_paper: bool) -> SotaRow {
    SotaRow { dataset, method, year, value, is_paper }
}

/// The state of the art that the paper is compared with.
pub const SOTA: [SotaRow; 17] = [
    sota("ucf11", "Liu et al. (original)", 2009, 0.712, false),
    sota("ucf11", "Liu et al.", 2013, 0.761, false),
    sota("ucf11", "Hasan & Roy-Chowdhury", 2014, 0.690, false),
    sota("ucf11", "Sharma et al.", 2015, 0.850, false),
    sota("ucf11", "Yang et al., TT-GRU", 2017, 0.813, true),
    sota("hollywood2", "Marszalek et al. (original)", 2009, 0.326, false),
    sota("hollywood2", "Le et al.", 2011, 0.533, false),
    sota("hollywood2", "Jain et al.", 2013, 0.542, false),
    sota("hollywood2", "Sharma et al.", 2015, 0.439, false),
    sota("hollywood2", "Fernando et al.", 2015, 0.720, false),
    sota("hollywood2", "Fernando & Gould", 2016, 0.406, false),
    sota("hollywood2", "Yang et al., TT-LSTM", 2017, 0.546, true),
    sota("youtube-celebrities", "Kim et al. (original)", 2008, 0.712, false),
    sota("youtube-celebrities", "Harandi et al.", 2013, 0.739, false),
    sota("youtube-celebrities", "Ortiz et al.", 2013, 0.808, false),
    sota("youtube-celebrities", "Faraki et al.", 2016, 0.728, false),
    sota("youtube-celebrities", "Yang et al., TT-GRU", 2017, 0.800, true),
];

/// The bars of one dataset's figure.
pub fn sota_rows(dataset: &str) -> impl Iterator<Item = &'static SotaRow> {
    SOTA.iter().filter(move |s| s.dataset == dataset)
}

/// Where the rows of a dataset's figure come from.
pub fn sota_source(dataset: &Dataset) -> String {
    format!("Figure {} of the deck (12 March 2019), after Yang et al. 2017", dataset.sota_figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sum_k r_{k-1} m_k n_k r_k` with every `n_k` = 4 and uniform rank.
    fn train_weights(modes: [usize; 4], rank: usize) -> usize {
        let ranks = [1, rank, rank, rank, 1];
        (0..4).map(|k| ranks[k] * modes[k] * 4 * ranks[k + 1]).sum()
    }

    #[test]
    fn the_headline_is_the_papers_own_bar() {
        for d in DATASETS {
            let bar = sota_rows(d.name).find(|row| row.is_paper).unwrap();
            assert_eq!(bar.method, format!("Yang et al., {}", d.headline.to_uppercase()));
            assert_eq!(Some(bar.value), result(d.name, d.headline).map(|row| row.mean));
        }
    }

    #[test]
    fn every_input_count_follows_from_the_shapes() {
        for r in RESULTS {
            let d = dataset(r.dataset).unwrap();
            let features: usize = d.input_modes.iter().product();
            assert_eq!(features, d.frame.0 * d.frame.1 * 3, "{}", d.name);
            let first_core = d.input_modes[0] * 4 * 4;
            let expected = match r.model {
                "gru" => features * d.dense_hidden * 3,
                "lstm" => features * d.dense_hidden * 4,
                "tt-gru" => train_weights(d.input_modes, 4) + 2 * first_core,
                "tt-lstm" => train_weights(d.input_modes, 4) + 3 * first_core,
                "tt-mlp" => match d.name {
                    "ucf11" => train_weights([20, 20, 24, 36], 6),
                    "hollywood2" => train_weights([18, 30, 26, 30], 4),
                    _ => train_weights([24, 20, 20, 36], 4),
                },
                other => panic!("unknown model {other}"),
            };
            assert_eq!(r.params_input, expected, "{} {}", r.dataset, r.model);
        }
    }

    #[test]
    fn table_1_follows_from_the_shapes() {
        for (rank, counts) in RANK_TABLE {
            let ttl = train_weights([8, 20, 20, 18], rank);
            let core = 8 * 4 * rank;
            assert_eq!(
                counts,
                [57_600 * 256, ttl, 4 * ttl, ttl + 3 * core, 3 * ttl, ttl + 2 * core],
                "rank {rank}"
            );
        }
    }

    #[test]
    fn the_papers_own_bars_are_its_best_results() {
        for d in &DATASETS {
            let best = RESULTS.iter().filter(|r| r.dataset == d.name).map(|r| r.mean).fold(0.0, f64::max);
            let own: Vec<f64> = sota_rows(d.name).filter(|s| s.is_paper).map(|s| s.value).collect();
            assert_eq!(own, [best], "{}", d.name);
            assert_eq!(sota_rows(d.name).filter(|s| s.value > best).count(), 1, "second best everywhere");
        }
    }

    #[test]
    fn five_models_per_dataset() {
        for d in &DATASETS {
            for m in PAPER_MODELS {
                let r = result(d.name, m).unwrap();
                assert!(r.mean > 0.0 && r.mean < 1.0 && r.epoch_s > 0.0);
                assert_eq!(r.std.is_none(), d.metric == "map");
            }
        }
    }
}
