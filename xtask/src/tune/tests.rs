use super::*;

fn point(epoch: usize, test_value: Option<f64>) -> CurvePoint {
    CurvePoint { epoch, train_loss: 1.0, train_value: 0.5, test_value, wall_s: 0.5 }
}

#[test]
fn the_first_of_the_best_evaluated_epochs_is_chosen() {
    let curve =
        [point(1, None), point(2, Some(0.4)), point(3, Some(0.7)), point(4, Some(0.7)), point(5, Some(0.6))];
    assert_eq!(best(&curve), Some((3, 0.7)));
    assert_eq!(best(&curve[..1]), None);
}

#[test]
fn what_a_search_looks_at_is_an_inner_split_without_rates_of_a_models_own() {
    let draw = ["train.lr=2e-3".to_owned()];
    let selection = inner(&Selection::default(), &["mean-frame".into()], &[3], &draw, 5);
    let repo = Repo::find().unwrap();
    let spec = bench_suite::spec::Spec::load(repo.root(), "miracl-words", &selection.overrides()).unwrap();
    assert!(spec.protocol.inner);
    assert_eq!(
        (spec.lr("mean-frame"), spec.folds("mean-frame"), spec.epochs("mean-frame")),
        (2e-3, vec![3], 5)
    );
}

fn records() -> (About, Rows) {
    let about = About {
        search: "words".into(),
        protocol: "clips".into(),
        models: vec!["tt-gru".into(), "gru".into()],
        rungs: vec![(2, 5), (1, 10)],
        title: "words".into(),
        data: "data: twenty clips".into(),
        data_digest: "d".into(),
        clips: 20,
        frames: 200,
        config: String::new(),
        provenance: Vec::new(),
    };
    let mut rows = Rows::default();
    for (model, good) in [("tt-gru", 0.9), ("gru", 0.8)] {
        for (rung, draw, value) in [(0, 0, 0.3), (0, 1, 0.6), (1, 1, good)] {
            rows.trials.push(TrialRow {
                model: model.into(),
                fold: 0,
                rung,
                draw,
                settings: format!("train.lr={draw}e-3"),
                epochs: 5 * (rung + 1),
                value,
                best_epoch: 5,
                train_s: 60.0,
                run: "r".into(),
            });
        }
        let settings = "train.lr=1e-3".to_owned();
        let choice = ChoiceRow { model: model.into(), fold: 0, draw: 1, settings, epochs: 5, value: good };
        let hits = if model == "gru" { "1110" } else { "1111" };
        rows.finals.push(FinalRow {
            model: model.into(),
            fold: 0,
            seed: 0,
            draw: 1,
            settings: choice.settings.clone(),
            epochs: 5,
            value: hits.bytes().filter(|hit| *hit == b'1').count() as f64 / 4.0,
            train_clips: 16,
            test_clips: 4,
            params_input: 7,
            train_s: 90.0,
            run: "r".into(),
            hits: hits.into(),
            groups: String::new(),
        });
        rows.choices.push(choice);
    }
    (about, rows)
}

#[test]
fn page_of_two_models() {
    let (about, rows) = records();
    insta::assert_snapshot!(page(&about, &rows));
}

#[test]
fn everything_follows_from_the_records_byte_for_byte() {
    let (about, rows) = records();
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("words/0123");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("run.toml"), toml::to_string(&about).unwrap()).unwrap();
    rows.write(&dir).unwrap();
    assert_eq!(Rows::read(&dir).unwrap(), rows);
    let repo = Repo::find().unwrap();
    let mut drawn = Vec::new();
    for _ in 0..2 {
        assert_eq!(redraw(&repo, root.path()).unwrap(), 1);
        drawn.push(["tuning.csv", "tuning.md", "tuning.svg", "tuning.png"].map(|name| {
            let bytes = fs::read(dir.join(name)).unwrap();
            fs::remove_file(dir.join(name)).unwrap();
            bytes
        }));
    }
    assert_eq!(drawn[0], drawn[1]);
}

#[test]
fn a_narrower_search_keeps_what_others_found() {
    let (_, mut rows) = records();
    let before = rows.clone();
    rows.forget(&["gru".into()], &[1]);
    assert_eq!(rows, before);
    rows.forget(&["gru".into()], &[0, 1]);
    assert!(rows.finals.iter().all(|row| row.model == "tt-gru") && rows.trials.len() == 3);
}
