//! Every number of the paper's tables that follows from a shape, and the errors of a wrong specification.

use bench_suite::build::{figure_1, model_config, size};
use bench_suite::device::{DeviceName, Precision};
use bench_suite::paper;
use bench_suite::plan::run_digest;
use bench_suite::spec::{Overrides, Spec};
use std::path::Path;
use tt_core::network::FORMATS;
use tt_rnn::models::{CnnSize, ModelConfig};

mod formats;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn load(name: &str, set: &[&str]) -> Result<Spec, String> {
    let overrides = Overrides { set: set.iter().map(|s| (*s).to_owned()).collect(), ..Overrides::default() };
    Spec::load(root(), name, &overrides).map_err(|error| error.to_string())
}

#[test]
fn the_papers_parameter_columns() {
    let expected = [
        ("ucf11", [7_680, 44_236_800, 58_982_400, 3_232, 3_360]),
        ("hollywood2", [4_352, 53_913_600, 71_884_800, 2_944, 3_104]),
        ("youtube-celebrities", [3_520, 38_880_000, 51_840_000, 3_328, 3_392]),
    ];
    for (experiment, counts) in expected {
        let spec = load(experiment, &[]).unwrap();
        let config = model_config(&spec, 11).unwrap();
        for (model, count) in ["tt-mlp", "gru", "lstm", "tt-gru", "tt-lstm"].iter().zip(counts) {
            assert_eq!(size(&config, model).unwrap().params_input, count, "{experiment} {model}");
        }
    }
}

#[test]
fn whole_model_counts_of_ucf11() {
    let config = model_config(&load("ucf11", &[]).unwrap(), 11).unwrap();
    for (model, total) in
        [("tt-gru", 203_435), ("tt-lstm", 269_355), ("gru", 44_437_003), ("lstm", 59_248_395)]
    {
        assert_eq!(size(&config, model).unwrap().params_total, total, "{model}");
    }
}

#[test]
fn gradients_of_dense_input_matrices_alone_stay_as_factors() {
    let of = |set: &[&str], model: &str| {
        let config = model_config(&load("ucf11", set).unwrap(), 11).unwrap();
        size(&config, model).unwrap().params_by_factors
    };
    assert_eq!(of(&[], "gru"), 44_236_800);
    assert_eq!(of(&["model.layers=2"], "gru"), 44_236_800 + 256 * 768);
    for (set, model) in [(&["model.backend=ops"][..], "gru"), (&[], "tt-gru"), (&[], "projected-gru")] {
        assert_eq!(of(set, model), 0, "{model} {set:?}");
    }
}

#[test]
fn a_hundred_units_of_a_plain_layer_have_5_760_000_weights() {
    let spec = load("ucf11", &["model.dense_hidden=100"]).unwrap();
    assert_eq!(size(&model_config(&spec, 11).unwrap(), "rnn").unwrap().params_input, 5_760_000);
}

#[test]
fn the_youtube_oddity_of_225_units_is_a_setting() {
    let spec = load("youtube-celebrities", &["model.dense_hidden=256"]).unwrap();
    assert_eq!(size(&model_config(&spec, 47).unwrap(), "gru").unwrap().params_input, 44_236_800);
}

#[test]
fn the_controls_counts_stand_beside_tt_gru_s() {
    let config = model_config(&load("ucf11", &[]).unwrap(), 11).unwrap();
    let expected = [
        ("mean-frame", 633_600, 633_611),
        ("stacked-frames", 33_000, 33_011),
        ("pooled-gru-small", 3_072, 203_275),
        ("pooled-gru", 199_680, 399_883),
        ("projected-gru", 0, 200_203),
        ("tt-gru-frozen", 0, 200_203),
        // Kernels of the CNN and the matrix from its 96 features; scales and shifts count in all.
        ("cnn-gru", 221_360 + 96 * 768, 496_571),
        ("cnn-lstm", 221_360 + 96 * 1024, 586_939),
        // And the matrix that makes the first state and cell of the 96; its biases and 20 places of the map count in all.
        ("attention-lstm", 221_360 + 96 * 1024 + 96 * 512, 586_939 + 96 * 512 + 512 + 256 * 20),
    ];
    for (model, input, total) in expected {
        let size = size(&config, model).unwrap();
        assert_eq!((size.params_input, size.params_total), (input, total), "{model}");
    }
    let large = ModelConfig { cnn: CnnSize::Large, ..config.clone() };
    let size_of_large = size(&large, "cnn-gru").unwrap();
    assert_eq!((size_of_large.params_input, size_of_large.params_total), (2_229_344, 2_433_355));
    assert_eq!(size(&config, "projected-gru").unwrap().params_frozen, 44_236_800);
    assert_eq!(size(&config, "tt-gru-frozen").unwrap().params_frozen, 3_232);
}

#[test]
fn figure_1_is_the_papers() {
    let rows = figure_1().unwrap();
    assert_eq!(rows.len(), 18);
    for row in rows {
        let (_, counts) = paper::RANK_TABLE.iter().find(|(rank, _)| *rank == row.rank).unwrap();
        let column = paper::RANK_LAYERS.iter().position(|layer| *layer == row.layer).unwrap();
        assert_eq!(counts[column], row.params, "{row:?}");
    }
}

#[test]
fn counts_by_shape_equal_those_of_built_models() {
    let small = ["model.dense_hidden=3", "data.width=24", "data.height=16", "model.input_modes=[4,8,6,6]"];
    let shapes: [&[&str]; 9] = [
        &["model.recurrent=ht", "model.recurrent_rank=2"],
        &["model.recurrent=tt", "model.recurrent_rank=2"],
        &["model.recurrent=tt", "model.recurrent_rank=3", "model.layers=2", "model.gates=separate"],
        &["model.gates=concatenated"],
        &["model.gates=separate"],
        &["model.layers=3"],
        &["model.layers=2", "model.bidirectional=true"],
        &["model.cnn_kernels=tt", "model.cnn_rank=4"],
        &["model.cnn_kernels=cp", "model.cnn_rank=9", "model.cnn=large"],
    ];
    for shape in shapes {
        let mut set = small.to_vec();
        set.push("model.mlp_input_modes=[8,8,12,9]");
        set.extend(shape);
        let spec = load("folder", &set).unwrap();
        let config = model_config(&spec, 5).unwrap();
        // What does not depend on the format of the input matrix is looked at with some of them.
        let some = ["gru", "tt-lstm", "pooled-gru", "tt-gru-frozen", "ht-rnn", "cnn-gru"];
        let every = shape[0].starts_with("model.gates");
        for entry in tt_rnn::models::MODELS.iter().filter(|entry| every || some.contains(&entry.name)) {
            let model = entry.build(&config, &candle_core::Device::Cpu, 0).unwrap();
            let total: usize = model.parameters().iter().map(|p| p.var.elem_count()).sum();
            let size = size(&config, entry.name).unwrap();
            assert_eq!(
                (size.params_input, size.params_total),
                (model.input_parameters(), total),
                "{} {shape:?}",
                entry.name
            );
        }
    }
}

/// TT-GRU's 203,435 weights, and what a second layer and the other direction add to them.
#[test]
fn whole_model_counts_of_stacks() {
    let total = |set: &[&str]| {
        let spec = load("ucf11", set).unwrap();
        size(&model_config(&spec, 11).unwrap(), "tt-gru").unwrap()
    };
    // Modes 4, 4, 4, 4 of 256 states: 3 * 4^3 + 4^4 + 4^4 + 4^3 = 768 cores; U and biases.
    let second = 768 + 3 * 256 * 257;
    assert_eq!(total(&["model.layers=2"]).params_total, 203_435 + second);
    // Another reader of frames, and classifier weights for its 256 states.
    let both = total(&["model.bidirectional=true"]);
    assert_eq!((both.params_input, both.params_total), (2 * 3_232, 2 * 203_435 - 11));
    // 512 states as 4, 4, 4, 8: 3 * 4^3 + 2 * 4^4 + 2 * 4^3 cores.
    let deep = total(&["model.bidirectional=true", "model.layers=2"]);
    assert_eq!(deep.params_total, 2 * 203_435 - 11 + 2 * (832 + 3 * 256 * 257));
}

/// What a train for U leaves of TT-GRU's and TT-LSTM's 203,435 and 269,355 weights.
#[test]
fn whole_model_counts_with_a_factorized_u() {
    let total = |model: &str, rank: usize| {
        let rank = format!("model.recurrent_rank={rank}");
        let spec = load("ucf11", &["model.recurrent=tt", &rank]).unwrap();
        size(&model_config(&spec, 11).unwrap(), model).unwrap().params_total
    };
    // Of 4 units a mode, G r 4^2 + 2 r^2 4^2 + r 4^2.
    assert_eq!(total("tt-gru", 4), 203_435 - 3 * 256 * 256 + 768);
    assert_eq!(total("tt-lstm", 4), 269_355 - 4 * 256 * 256 + 832);
    assert_eq!([total("tt-gru", 4), total("tt-gru", 8), total("tt-gru", 16)], [7_595, 9_387, 16_043]);
}

#[test]
fn stacks_are_named_where_they_are_unusual_and_only_there() {
    let usual = load("ucf11", &[]).unwrap();
    let text = usual.to_toml();
    assert!(
        ["layers", "bidirectional", "readout", "recurrent ", "recurrent_rank", "cnn_"]
            .iter()
            .all(|key| !text.contains(key)),
        "{text}"
    );
    let set = ["model.layers=2", "model.bidirectional=true", "model.readout=max"];
    let stack = load("ucf11", &set).unwrap();
    assert_eq!(Spec::from_toml(&stack.to_toml(), "text").unwrap(), stack);
    let digest = |spec: &Spec| run_digest(spec, "data", DeviceName::Cpu, Precision::F32);
    for key in set {
        assert_ne!(digest(&load("ucf11", &[key]).unwrap()), digest(&usual), "{key}");
    }
    assert_eq!(
        digest(
            &load("ucf11", &["model.layers=1", "model.bidirectional=false", "model.readout=last"]).unwrap()
        ),
        digest(&usual)
    );
}

#[test]
fn names_are_those_of_the_models() {
    let models: Vec<&str> = tt_rnn::models::MODELS.iter().map(|entry| entry.name).collect();
    assert_eq!(bench_suite::spec::MODEL_NAMES, models);
    let formats = FORMATS.iter().map(|format| format.name());
    let formats: Vec<&str> = ["tt"].into_iter().chain(formats).collect();
    assert_eq!(bench_suite::spec::FORMAT_NAMES, formats);
}

#[test]
fn ranks_of_formats_are_settings_and_a_run_without_them_does_not_name_them() {
    let digest = |spec: &Spec| run_digest(spec, "data", DeviceName::Cpu, Precision::F32);
    let plain = load("folder", &[]).unwrap();
    let text = plain.to_toml();
    assert!(!["input_weights", "blocks", "tree", "ranks"].iter().any(|key| text.contains(key)), "{text}");
    for set in [
        "model.input_weights=3360",
        "model.ranks.tr=[3, 3, 4, 3]",
        "model.ranks.tt=[4, 5, 4]",
        "model.blocks=3",
        "model.tree=((1 2) (3 4))",
    ] {
        let spec = load("folder", &[set]).unwrap();
        assert_ne!(digest(&spec), digest(&plain), "{set}");
        assert_eq!(Spec::from_toml(&spec.to_toml(), "text").unwrap(), spec, "{set}");
    }
    let error = load("folder", &["model.ranks.tucke=[3]"]).unwrap_err();
    assert!(error.contains("the nearest valid key is \"model.ranks.tucker\""), "{error}");
    assert!(load("folder", &["model.blocks=0"]).unwrap_err().contains("must be at least 1"));
    assert!(load("folder", &["model.blocks=1000000000"]).unwrap_err().contains("must be at most 256"));
    let error = load("folder", &["model.names=[\"cp-gru\"]", "model.input_weights=44236801"]).unwrap_err();
    assert!(error.contains("cp-gru has 44236800 in a full matrix: ask for fewer"), "{error}");
}

/// The published ring has eight input and five output modes; what pairs them says so.
#[test]
fn a_ring_that_is_split_has_other_numbers_of_modes_on_both_sides() {
    let sides = ["model.input_modes=[4,2,5,8,6,5,3,2]", "model.output_modes=[4,4,2,4,2]"];
    let ranks = "model.ranks.tr-split=[10,5,5,5,5,5,5,5,5,5,5,5,5]";
    let config = model_config(&load("ucf11", &[sides[0], sides[1], ranks]).unwrap(), 11).unwrap();
    for (model, count) in [("tr-split-gru", 1_625), ("tr-split-lstm", 1_725)] {
        assert_eq!(size(&config, model).unwrap().params_input, count);
    }
    for (model, said) in [
        ("tt-gru", "8 input modes need as many output modes"),
        ("tr-gru", "needs an output mode for every input mode, found 8 and 5"),
        ("bt-lstm", "needs an output mode for every input mode, found 8 and 5"),
    ] {
        let error = size(&config, model).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn every_experiment_loads_with_both_recipes() {
    for name in bench_suite::spec::stems(&root().join("experiments")).unwrap() {
        for recipe in ["scaled", "scaled-single", "paper-code"] {
            let overrides = Overrides { recipe: Some(recipe.to_owned()), ..Overrides::default() };
            let spec = Spec::load(root(), &name, &overrides).unwrap();
            assert_eq!(Spec::from_toml(&spec.to_toml(), "text").unwrap(), spec, "{name} {recipe}");
        }
    }
}

/// In whatever order they are asked for, and only where something is.
#[test]
fn what_is_done_to_pictures_names_a_run() {
    let digest =
        |set: &[&str]| run_digest(&load("folder", set).unwrap(), "data", DeviceName::Cpu, Precision::F32);
    assert_eq!(digest(&["train.augment=[]"]), digest(&[]));
    assert!(!load("folder", &[]).unwrap().to_toml().contains("augment"));
    let both = digest(&["train.augment=[\"mirror\", \"crop\"]"]);
    assert_eq!(both, digest(&["train.augment=[\"crop\", \"mirror\"]"]));
    let some = [digest(&[]), digest(&["train.augment=[\"mirror\"]"]), digest(&["train.augment=[\"crop\"]"])];
    assert!(!some.contains(&both) && some[0] != some[1] && some[1] != some[2]);
}

/// What strictness changes is the data, whose digest is part of a run's.
#[test]
fn a_runs_name_does_not_depend_on_strictness() {
    let with = |set: &str| load("folder", &[set]).unwrap();
    let (lenient, strict) = (with("decode.strict=false"), with("decode.strict=true"));
    assert_eq!(load("folder", &[]).unwrap(), lenient);
    let digest = |spec: &Spec| run_digest(spec, "data", DeviceName::Cpu, Precision::F32);
    assert_eq!(digest(&lenient), digest(&strict));
    assert_ne!(digest(&lenient), digest(&with("data.fps=12")));
}

/// Recorded runs are still named by their configuration and data, though `backend` was called `rung` then. A new key of a
/// specification, or another order, would name the same work another run and train it again.
#[test]
fn runs_keep_their_names() {
    for (experiment, run) in [("miracl-words", "82e61160b8d94d54"), ("grid-words", "cba18e06c708015a")] {
        let folder = format!("results/{experiment}/runs/scaled-cpu-{}", &run[..8]);
        let text = std::fs::read_to_string(root().join(&folder).join("run.toml")).unwrap();
        let record: toml::Table = text.parse().unwrap();
        let spec = Spec::from_toml(record["run"][0]["config"].as_str().unwrap(), &folder).unwrap();
        let data = record["data_digest"].as_str().unwrap();
        assert_eq!(run_digest(&spec, data, DeviceName::Cpu, Precision::F32), run, "{folder}");
    }
}

#[test]
fn a_file_may_call_the_backend_by_its_old_name_and_a_flag_may_not() {
    let spec = load("ucf11", &["model.backend=ops"]).unwrap();
    let old = spec.to_toml().replace("\nbackend = ", "\nrung = ");
    assert!(old.contains("\nrung = \"ops\""), "{old}");
    assert_eq!(Spec::from_toml(&old, "text").unwrap(), spec);
    let both = old.replace("\nrung = ", "\nbackend = \"fused\"\nrung = ");
    assert!(Spec::from_toml(&both, "text").unwrap_err().to_string().contains("unknown key \"model.rung\""));
    assert!(load("ucf11", &["model.rung=ops"]).unwrap_err().contains("now called model.backend"));
}

#[test]
fn paper_code_is_the_released_script() {
    let of = |name: &str| {
        let overrides = Overrides { recipe: Some("paper-code".into()), ..Overrides::default() };
        Spec::load(root(), name, &overrides).unwrap()
    };
    let (ucf, h2, ytc) = (of("ucf11"), of("hollywood2"), of("youtube-celebrities"));
    assert_eq!(
        (ucf.train.lr, ucf.train.batch, ucf.epochs("tt-gru"), ucf.train.warm_up_to),
        (1e-4, 16, 1001, 0)
    );
    assert_eq!(
        (h2.train.lr, h2.train.batch, h2.epochs("tt-gru"), h2.train.warm_up_to),
        (1e-3, 32, 501, 1496)
    );
    assert_eq!(
        (ytc.train.lr, ytc.train.batch, ytc.epochs("tt-gru"), ytc.train.warm_up_to),
        (1e-3, 16, 101, 85)
    );
    assert_eq!((h2.protocol.hold_out, ytc.model.dense_hidden), (0.15, 225));
    assert_eq!((ucf.train.pixel_scale, ucf.train.pixel_shift), (1.0, -128.0));
}

#[test]
fn wrong_specifications_say_what_is_right() {
    let cases = [
        (vec!["model.ranks=5"], "\"model.rank\""),
        (vec!["model.rank=0"], "model.rank = 0: must be at least 1"),
        (
            vec!["model.input_modes=[8,20,20,17]"],
            "must multiply to 57600 (160 x 120 x 3), but their product is 54400",
        ),
        (vec!["model.mlp_frames=0"], "model.mlp_frames = 0: must be at least 1"),
        (
            vec!["model.output_modes=[]", "model.input_modes=[]"],
            "model.output_modes = []: one number or more",
        ),
        (
            vec!["model.input_weights=3360", "model.ranks.tr=[3, 3, 4, 3]"],
            "model.ranks = tr: model.input_weights decides the ranks",
        ),
        (vec!["model.recurrent=tt"], "model.recurrent_rank = 0: must be at least 1"),
        (vec!["model.recurrent_rank=4"], "set model.recurrent to its format, or leave it out"),
        (vec!["model.recurrent=t", "model.recurrent_rank=4"], "did you mean \"tt\"?"),
        (vec!["model.cnn_kernels=cp"], "model.cnn_rank = 0: must be at least 1"),
        (vec!["model.cnn_rank=8"], "set model.cnn_kernels to its format, or leave it out"),
        (vec!["model.cnn_kernels=ring", "model.cnn_rank=8"], "model.cnn_kernels"),
        (vec!["data.window=evenly", "data.max_frames=9"], "did you mean \"even\"?"),
        (vec!["data.window=random"], "set data.max_frames to how many"),
        (vec!["data.max_frames=-1"], "integer `-1`, expected usize"),
        (vec!["train.augment=[\"crop\", \"mirrored\"]"], "did you mean \"mirror\"?"),
        (
            vec!["model.names=[\"frozen-cnn-gru\"]", "train.augment=[\"crop\"]"],
            "frozen-cnn-gru reads were computed of them before",
        ),
        (vec!["data.element=f32"], "is of loader rows: leave it out"),
        (vec!["data.audio=logmel"], "data.audio = logmel: is of loader folder, and ucf11 reads"),
        (vec!["model.pretrained=lite1"], "model.pretrained = lite1: is lite0, or the first 12 digits"),
        (vec!["train.standardize=features"], "did you mean \"feature\"?"),
        (vec!["model.layers=0"], "model.layers = 0: must be at least 1"),
        (vec!["model.readout=men"], "did you mean \"mean\"?"),
        (vec!["model.layers=2", "train.warm_up_to=9"], "or leave model.layers, model.bidirectional"),
        (vec!["train.lr=-1.0"], "must be a positive number"),
        (vec!["train.weight_decay=-0.1"], "must be a number of at least 0"),
        (vec!["model.names=[\"tt-gro\"]"], "did you mean \"tt-gru\"?"),
        (vec!["protocol.kind=clip"], "did you mean \"clips\"?"),
        (vec!["protocol.folds=1"], "must be at least 2"),
        (vec!["protocol.folds=1000000000000"], "must be at most 65536"),
        (vec!["data.width=4294967456"], "must be at most 1048576"),
        (vec!["model.output_modes=[4294967296,4294967296]"], "the product of the modes must be at most"),
        (vec!["protocol.hold_out=0.15"], "only the lists of protocol official can take it"),
        (vec!["model"], "expected key=value"),
        (vec!["train.batch=many"], "train.batch takes a value of type integer, not string"),
    ];
    for (set, expected) in cases {
        let text = load("ucf11", &set).unwrap_err();
        assert!(text.contains(expected), "{set:?}: {text}");
    }
    for (set, expected) in [
        (vec!["data.audio=mfcc"], "data.audio = mfcc: is logmel, or left out"),
        (vec!["data.audio=logmel"], "data.width = 160: is the bands of a row of sound: 4 to 64"),
        (
            vec!["data.audio=logmel", "data.width=64", "data.height=1"],
            "data.fps = 24: rows of sound a second must divide 16000",
        ),
    ] {
        let text = load("folder", &set).unwrap_err();
        assert!(text.contains(expected), "{set:?}: {text}");
    }
    for (set, expected) in [
        (vec!["data.height=2"], "must be 1 with loader rows"),
        (vec!["train.augment=[\"crop\"]"], "train.augment = crop: is of pictures, and rows have no sides"),
        (vec!["data.redistributable=true"], "rows are not shown"),
        (vec!["data.render=ucf11"], "loader rows reads none"),
        (vec!["data.element=f64"], "is u8 or f32"),
        (vec!["model.names=[\"pooled-gru\"]"], "reads the pixels of pictures"),
    ] {
        let text = load("rows", &set).unwrap_err();
        assert!(text.contains(expected), "{set:?}: {text}");
    }
    assert!(load("ucf12", &[]).unwrap_err().contains("did you mean \"ucf11\"?"));
    let folds = Overrides { folds: vec![9], ..Overrides::default() };
    let text = Spec::load(root(), "ucf11", &folds).unwrap_err().to_string();
    assert!(text.contains("folds are numbered from 0 to 4"), "{text}");
}

#[test]
fn slips_that_would_run_are_refused() {
    for (set, expected) in [
        (["train.clip_norm=-1"], "train.clip_norm = -1: must be a number of at least 0"),
        (["train.classifier_l2=nan"], "train.classifier_l2 = NaN: must be a number of at least 0"),
        (["train.pixel_scale=0"], "train.pixel_scale = 0: must be a positive number"),
        (["train.pixel_shift=inf"], "train.pixel_shift = inf: must be a number"),
        (["model.rank=1000000"], "model.rank = 1000000: must be at most 65536"),
        (["model.layers=1000"], "model.layers = 1000: must be at most 64"),
        (["model.names=[\"gru\", \"tt-gru\", \"gru\"]"], "model.names = gru: is named twice"),
        (["train.seeds=[3, 3]"], "train.seeds = 3: is named twice"),
        (["model.rank=3\nfoo=1"], "model.rank takes a value of type integer, not string"),
        (
            ["model.dense_hidden=9223372036854775807"],
            "model.dense_hidden = 9223372036854775807: must be at most 65536",
        ),
        (["model.names=[]"], "model.names = []: leaves nothing to train"),
        (["train.seeds=[]"], "train.seeds = []: leaves nothing to train"),
        (["protocol.run_folds.tt-gru=[]"], "protocol.run_folds = []: leaves nothing to train"),
        (["model.rank=-1"], "--set model.rank=-1: model.rank: invalid value: integer `-1`"),
        (["train.seeds=[-1]"], "--set train.seeds=[-1]: train.seeds[0]: invalid value: integer `-1`"),
        (["recipe=paper-code"], "--recipe takes another recipe"),
        (["name=../elsewhere"], "it belongs to the experiment's file"),
        (["data.dataset=folder"], "it belongs to the experiment's file"),
    ] {
        let text = load("ucf11", &set).unwrap_err();
        assert!(text.contains(expected), "{set:?}: {text}");
    }
    let folds = Overrides { folds: vec![1, 1], ..Overrides::default() };
    let text = Spec::load(root(), "ucf11", &folds).unwrap_err().to_string();
    assert!(text.contains("protocol.run_folds = 1: is named twice"), "{text}");
}

#[test]
fn settings_of_recipes_are_checked_whichever_is_taken() {
    let copy = tempfile::tempdir().unwrap();
    let (from, to) = (root().join("experiments"), copy.path().join("experiments"));
    std::fs::create_dir_all(to.join("recipes")).unwrap();
    for recipe in ["scaled", "paper-code"] {
        let name = format!("recipes/{recipe}.toml");
        std::fs::copy(from.join(&name), to.join(name)).unwrap();
    }
    let text = std::fs::read_to_string(from.join("folder-sample.toml")).unwrap();
    for (more, expected) in [
        ("[recipe_overrides.nope.train]\nlr = 3.0", "unknown recipe \"nope\""),
        ("[recipe_overrides.paper-code.train]\nlrr = 3.0", "unknown key \"train.lrr\""),
        ("[recipe_overrides]\nscaled = 3", "scaled is a table, not of type integer"),
        (
            "[train.model_lr]\ntt-gru = \"fast\"",
            "experiments/folder-sample.toml: train.model_lr.tt-gru: invalid type",
        ),
    ] {
        std::fs::write(to.join("folder-sample.toml"), format!("{text}\n{more}\n")).unwrap();
        let error = Spec::load(copy.path(), "folder-sample", &Overrides::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{more}: {error}");
    }
    std::fs::write(to.join("folder-sample.toml"), format!("recipe = 3\n{text}")).unwrap();
    let error = Spec::load(copy.path(), "folder-sample", &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("recipe = 3: the name of a recipe in quotes is expected"), "{error}");
}

/// A model that an experiment does not name trains as long as its train there.
#[test]
fn epochs_are_those_of_the_train_where_none_are_given() {
    let apart = Overrides { set: vec!["train.epochs.gru=3".into()], ..Overrides::default() };
    let spec = Spec::load(root(), "ucf11-sample", &apart).unwrap();
    for (model, twin) in [("cp-lstm", "tt-lstm"), ("tr-split-mlp", "tt-mlp"), ("attention-lstm", "tt-lstm")] {
        assert_eq!(spec.epochs(model), spec.train.epochs[twin], "{model}");
    }
    assert_ne!(spec.epochs("cnn-gru"), spec.epochs("gru"));
}
