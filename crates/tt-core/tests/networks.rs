//! Formats, orders and the kernel of tensor networks, against loops over the definitions and exhaustive search.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{Device, Tensor, Var};
use rand::RngExt;
use std::collections::{BTreeSet, HashMap};
use tt_core::TtShape;
use tt_core::apply::{Affine, Fused, Isa, Rows};
use tt_core::network::format::Train;
use tt_core::network::{
    Contracted, FORMATS, Format, FormatShape, Modes, Network, Objective, Options, Plan, SavedRows, ops,
};
use tt_core::rng::stream;

fn modes(inputs: &[usize], outputs: &[usize], gates: usize) -> Modes {
    Modes { inputs: inputs.to_vec(), outputs: outputs.to_vec(), gates }
}

fn format(name: &str) -> &'static dyn Format {
    *FORMATS.iter().find(|format| format.name() == name).unwrap()
}

fn shape(name: &str, modes: &Modes, ranks: &[usize]) -> FormatShape {
    FormatShape::with_ranks(format(name), modes, &Options::default(), ranks).unwrap()
}

/// The layers of the papers, without gates.
fn published(name: &str) -> (Modes, Vec<usize>) {
    match name {
        "tr-split" => (modes(&[4, 2, 5, 8, 6, 5, 3, 2], &[4, 4, 2, 4, 2], 1), [&[10][..], &[5; 12]].concat()),
        "ht" => (modes(&[8, 10, 10, 9, 8], &[4, 4, 2, 4, 2], 1), vec![4, 4, 4, 4, 4, 5, 5, 5]),
        _ => (modes(&[8, 20, 20, 18], &[4, 4, 4, 4], 1), vec![4]),
    }
}

#[test]
fn counts_of_the_papers() {
    for (name, gru, lstm) in [
        ("bt", 3_136, 3_392),
        ("tr-split", 1_625, 1_725),
        ("ht", 1_117, 1_245),
        ("cp", 1_312, 1_440),
        ("tucker", 1_568, 1_696),
    ] {
        let (modes, ranks) = published(name);
        for (gates, count) in [(3, gru), (4, lstm)] {
            let shape = shape(name, &Modes { gates, ..modes.clone() }, &ranks);
            assert_eq!(shape.network().params(), count, "{name} with {gates} gates");
            assert_eq!(shape.network().in_features(), 57_600);
            assert_eq!(shape.network().out_features(), gates * 256);
        }
    }
}

/// Mflop a frame of the LSTM by opt_einsum's `dp`, 16 frames a call.
#[test]
fn the_cheapest_orders_cost_what_opt_einsum_finds() {
    for (name, ranks, mflop) in [
        ("tr-split", None, 2.97),
        ("cp", Some(4), 2.35),
        ("cp", Some(10), 5.88),
        ("tucker", None, 4.57),
        ("bt", None, 9.1),
        ("ht", None, 3.77),
    ] {
        let (modes, own) = published(name);
        let ranks = ranks.map_or(own, |rank| vec![rank]);
        let shape = shape(name, &Modes { gates: 4, ..modes }, &ranks);
        let plan = Plan::new(shape.network(), Objective::Products { rows: 16 });
        let found = 2e-6 * (plan.macs_per_row as f64 + plan.macs_per_call as f64 / 16.0);
        assert!((found / mflop - 1.0).abs() < 0.01, "{name}: {found}");
    }
}

/// Which of the tensors of a network have been multiplied together: the row, bit 0, and the cores.
type Parts = Vec<u32>;

/// The cheapest of all orders in which pairs of parts can be multiplied, each state of them tried once.
fn exhaustive(network: &Network, parts: &Parts, rows: f64, known: &mut HashMap<Parts, f64>) -> f64 {
    if parts.len() == 1 {
        return 0.0;
    }
    if let Some(best) = known.get(parts) {
        return *best;
    }
    let labels = |part: u32| -> BTreeSet<usize> {
        let of_cores = network.cores().iter().enumerate().filter(|(k, _)| part >> (k + 1) & 1 == 1);
        let row = if part & 1 == 1 { network.inputs() } else { &[] };
        of_cores.flat_map(|(_, core)| core.labels.iter()).chain(row).copied().collect()
    };
    // What is left of a part: labels that are asked for or that another part has.
    let open = |part: u32| -> BTreeSet<usize> {
        let others = labels(!part);
        labels(part).into_iter().filter(|l| network.outputs().contains(l) || others.contains(l)).collect()
    };
    let mut best = f64::INFINITY;
    for a in 0..parts.len() {
        for b in a + 1..parts.len() {
            let all: BTreeSet<usize> = open(parts[a]).union(&open(parts[b])).copied().collect();
            let size = |label: &usize| network.labels()[*label].size as f64;
            let row = (parts[a] | parts[b]) & 1 == 1;
            let cost = all.iter().map(size).product::<f64>() / if row { 1.0 } else { rows };
            let mut next: Parts = (0..parts.len()).filter(|k| *k != a && *k != b).map(|k| parts[k]).collect();
            next.push(parts[a] | parts[b]);
            next.sort_unstable();
            best = best.min(cost + exhaustive(network, &next, rows, known));
        }
    }
    known.insert(parts.clone(), best);
    best
}

#[test]
fn orders_are_the_cheapest_of_all() {
    for format in FORMATS {
        for (inputs, outputs) in
            [(vec![4, 3], vec![2, 3]), (vec![3, 8, 2], vec![2, 5, 1]), (vec![5, 2, 3, 4], vec![2, 3, 1, 2])]
        {
            for (rank, rows) in [(2, 1_u32), (3, 50)] {
                let modes = modes(&inputs, &outputs, 3);
                let others = if inputs.len() == 4 { other_options(format.name()) } else { Vec::new() };
                for options in others.iter().chain([&Options::default()]) {
                    let shape = FormatShape::uniform(format, &modes, options, rank).unwrap();
                    let network = shape.network();
                    let plan = Plan::new(network, Objective::Products { rows: rows as usize });
                    let parts = (0..=network.cores().len()).map(|k| 1 << k).collect();
                    let best = exhaustive(network, &parts, f64::from(rows), &mut HashMap::new());
                    assert!((plan.cost / best - 1.0).abs() < 1e-12, "{shape}: {} not {best}", plan.cost);
                    let found = plan.macs_per_row as f64 + plan.macs_per_call as f64 / f64::from(rows);
                    assert!((found / best - 1.0).abs() < 1e-12, "{shape}: {found} reported");
                }
            }
        }
    }
}

/// Draws numbers in -1 to 1.
fn drawn(count: usize, purpose: &str) -> Vec<f32> {
    let mut stream = stream(1, purpose);
    (0..count).map(|_| 2.0 * stream.random::<f32>() - 1.0).collect()
}

fn close(what: &str, found: &[f32], expected: &[f64]) {
    let scale = expected.iter().fold(0.0_f64, |max, v| max.max(v.abs()));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((f64::from(*a) - b).abs() <= 1e-5 * scale, "{what}: {a} not {b} of {scale}");
    }
}

/// A matrix and its derivative with respect to each weight, from the definition alone: every entry is linear in each
/// weight, so that a difference is exact.
struct Definition {
    matrix: Vec<f64>,
    derivatives: Vec<Vec<f64>>,
}

impl Definition {
    fn of(shape: &FormatShape, cores: &[f32]) -> Self {
        let mut wide: Vec<f64> = cores.iter().map(|v| f64::from(*v)).collect();
        let matrix = shape.dense(&wide);
        let derivatives = (0..wide.len())
            .map(|k| {
                let keep = std::mem::replace(&mut wide[k], f64::from(cores[k]) + 1.0);
                let up = shape.dense(&wide);
                wide[k] = keep;
                up.iter().zip(&matrix).map(|(up, w)| up - w).collect()
            })
            .collect();
        Self { matrix, derivatives }
    }

    /// `y`, `dcores` and `dx` of rows of `m` numbers.
    fn run(&self, affine: Affine, m: usize, x: &[f32], dy: &[f32]) -> [Vec<f64>; 3] {
        let (rows, n) = (x.len() / m, self.matrix.len() / m);
        let (scale, shift) = (f64::from(affine.scale), f64::from(affine.shift));
        let (mut y, mut dx, mut dw) = (vec![0.0; rows * n], vec![0.0; x.len()], vec![0.0; m * n]);
        for (row, i, j) in (0..rows * m * n).map(|at| (at / (m * n), at / n % m, at % n)) {
            let (w, x) = (self.matrix[i * n + j], scale * f64::from(x[row * m + i]) + shift);
            let dy = f64::from(dy[row * n + j]);
            y[row * n + j] += x * w;
            dx[row * m + i] += scale * dy * w;
            dw[i * n + j] += x * dy;
        }
        let of = |derivative: &Vec<f64>| derivative.iter().zip(&dw).map(|(a, b)| a * b).sum();
        [y, self.derivatives.iter().map(of).collect(), dx]
    }
}

fn edge_shapes(format: &'static dyn Format) -> Vec<FormatShape> {
    let mut all = vec![
        (modes(&[6], &[5], 2), 1),
        (modes(&[6], &[5], 2), 3),
        (modes(&[1], &[4], 1), 2),
        (modes(&[3, 4], &[2, 3], 1), 1),
        (modes(&[3, 4], &[2, 3], 3), 2),
        (modes(&[1, 5, 1], &[3, 1, 2], 2), 2),
        (modes(&[1, 1], &[1, 1], 1), 2),
        (modes(&[2, 5], &[7, 3], 1), 3),
        (modes(&[2, 5, 3], &[7, 1, 2], 1), 2),
        (modes(&[3, 2, 2, 3], &[2, 1, 2, 2], 2), 2),
        (modes(&[2, 3, 4], &[1, 2, 1], 2), 3),
    ];
    if ["tr-split", "cp-split"].contains(&format.name()) {
        all.extend([(modes(&[3, 2, 4], &[3], 2), 3), (modes(&[9], &[2, 2, 3], 1), 2)]);
    }
    let of =
        |modes: &Modes, options: &Options, rank| FormatShape::uniform(format, modes, options, rank).unwrap();
    let mut shapes: Vec<FormatShape> =
        all.iter().map(|(modes, rank)| of(modes, &Options::default(), *rank)).collect();
    let four = modes(&[3, 2, 4, 2], &[2, 1, 2, 3], 2);
    shapes.extend(other_options(format.name()).iter().map(|options| of(&four, options, 2)));
    shapes
}

/// Trees over four modes that are not the balanced one, and numbers of blocks.
fn other_options(format: &str) -> Vec<Options> {
    let tree = |text: &str| Options { tree: Some(text.parse().unwrap()), ..Options::default() };
    match format {
        "ht" => ["(((1 2) 3) 4)", "(1 (2 (3 4)))", "((3 1) (4 2))", "(4 ((1 3) 2))"].map(tree).to_vec(),
        "bt" => [1, 3].map(|blocks| Options { blocks, ..Options::default() }).to_vec(),
        _ => Vec::new(),
    }
}

#[test]
fn forward_and_gradients_are_those_of_the_definition() {
    let affine = Affine { scale: 0.75, shift: -0.5 };
    for shape in FORMATS.into_iter().flat_map(edge_shapes) {
        let network = shape.network();
        let cores = drawn(network.params(), "tests/network/cores");
        let definition = Definition::of(&shape, &cores);
        for rows in [1, 9] {
            let x = drawn(rows * network.in_features(), "tests/network/rows");
            let dy = drawn(rows * network.out_features(), "tests/network/dy");
            let [y, dcores, dx] = definition.run(affine, network.in_features(), &x, &dy);
            for isa in Isa::available() {
                let plans = [
                    Objective::Time { isa },
                    Objective::Products { rows: 1 },
                    Objective::Products { rows: 1_000_000 },
                ];
                for objective in plans {
                    let plan = Plan::new(network, objective);
                    let contracted = Contracted::with_plan(network, affine, plan, isa);
                    let what = format!("{shape}, {rows} rows, {} {objective:?}", isa.name());
                    let mut saved = SavedRows::default();
                    let mut found = vec![0.0; y.len()];
                    contracted.forward(Rows::F32(&x), &cores, &mut found, Some(&mut saved)).unwrap();
                    close(&format!("{what}: y"), &found, &y);
                    let (mut dc, mut dr) = (vec![0.0; cores.len()], vec![0.0; x.len()]);
                    contracted.backward(Rows::F32(&x), &cores, &saved, &dy, &mut dc, Some(&mut dr)).unwrap();
                    close(&format!("{what}: dcores"), &dc, &dcores);
                    close(&format!("{what}: dx"), &dr, &dx);
                    let mut again = vec![0.0; cores.len()];
                    contracted.backward(Rows::F32(&x), &cores, &saved, &dy, &mut again, None).unwrap();
                    assert_eq!(dc, again, "{what}: without dx");
                }
            }
        }
    }
}

/// Trains too, which are multiplied out in this form alone.
#[test]
fn matrices_are_multiplied_out_with_the_gradient_of_the_definition() {
    for shape in FORMATS.into_iter().chain([&Train as &dyn Format]).flat_map(edge_shapes) {
        let network = shape.network();
        let cores = drawn(network.params(), "tests/network/cores");
        let dw = drawn(network.in_features() * network.out_features(), "tests/network/dw");
        let definition = Definition::of(&shape, &cores);
        let variable = Var::from_slice(&cores, cores.len(), &Device::Cpu).unwrap();
        let matrix = ops::matrix(network, &variable).unwrap();
        let asked = Tensor::from_slice(&dw, matrix.shape(), &Device::Cpu).unwrap();
        let grads = (&matrix * asked).unwrap().sum_all().unwrap().backward().unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(matrix.dims(), [network.in_features(), network.out_features()]);
        close(&format!("{shape}: W"), &flat(&matrix), &definition.matrix);
        let of = |derivative: &Vec<f64>| derivative.iter().zip(&dw).map(|(a, b)| a * f64::from(*b)).sum();
        let expected: Vec<f64> = definition.derivatives.iter().map(of).collect();
        close(&format!("{shape}: dcores"), &flat(grads.get(&variable).unwrap()), &expected);
    }
}

#[test]
fn bytes_are_numbers_and_threads_change_nothing() {
    let shapes = FORMATS.into_iter().flat_map(|format| {
        let of = |modes: &Modes, options: &Options| FormatShape::uniform(format, modes, options, 3).unwrap();
        let usual = of(&modes(&[4, 5, 6], &[2, 3, 2], 3), &Options::default());
        let four = modes(&[4, 5, 3, 2], &[2, 3, 2, 1], 3);
        let others = other_options(format.name());
        [vec![usual], others.iter().map(|options| of(&four, options)).collect()].concat()
    });
    for shape in shapes {
        let network = shape.network();
        let mut stream = stream(2, "tests/network/bytes");
        let bytes: Vec<u8> = (0..300 * 120).map(|_| stream.random()).collect();
        let numbers: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte)).collect();
        let cores = drawn(network.params(), "tests/network/cores");
        let dy = drawn(300 * 36, "tests/network/dy");
        let contracted = Contracted::new(network, Affine { scale: 1.0 / 127.5, shift: -1.0 });
        let run = |rows: Rows| {
            let mut saved = SavedRows::default();
            let (mut y, mut dc) = (vec![0.0; 300 * 36], vec![0.0; cores.len()]);
            contracted.forward(rows, &cores, &mut y, Some(&mut saved)).unwrap();
            contracted.backward(rows, &cores, &saved, &dy, &mut dc, None).unwrap();
            assert!(saved.bytes() <= bytes.len(), "{shape}");
            (y, dc)
        };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let one = pool(1).install(|| run(Rows::U8(&bytes)));
        assert_eq!(one, pool(4).install(|| run(Rows::U8(&bytes))), "{shape}");
        assert_eq!(one, run(Rows::F32(&numbers)), "{shape}");
    }
}

/// Entries of the paper's matrix, some of each of many draws: they have the variance of dense Glorot.
#[test]
fn initial_values_give_entries_the_variance_of_dense_glorot() {
    for format in FORMATS {
        let modes = modes(&[8, 20, 20, 18], &[4; 4], 1);
        let shape = FormatShape::uniform(format, &modes, &Options::default(), 2).unwrap();
        let target = 2.0 / (57_600.0 + 256.0);
        let (draws, each) = (10_000, 10);
        let mut sum = 0.0;
        for seed in 0..draws {
            let mut stream = stream(seed, "tests/network/variance");
            let cores: Vec<f64> = shape.network().initial(&mut stream).into_iter().map(f64::from).collect();
            for _ in 0..each {
                let mut index = |sizes: &[usize]| -> Vec<usize> {
                    sizes.iter().map(|size| stream.random_range(0..*size)).collect()
                };
                let (i, j) = (index(&modes.inputs), index(&modes.outputs));
                sum += format.entry(&shape, &cores, &i, &j).powi(2);
            }
        }
        let found = sum / (draws * each) as f64 / target;
        assert!((found - 1.0).abs() < 0.02, "{}: {found} of the target", format.name());
    }
}

#[test]
fn a_budget_is_used_up_and_not_overdrawn() {
    let modes = modes(&[8, 20, 20, 18], &[4; 4], 3);
    for format in FORMATS.into_iter().chain([&Train as &dyn Format]) {
        let options = Options::default();
        for budget in [1_200, 3_300, 10_000] {
            let shape = FormatShape::within(format, &modes, &options, budget).unwrap();
            let found = shape.network().params();
            assert!(found <= budget && found * 5 > budget * 4, "{shape} of {budget}");
        }
        let smallest = FormatShape::uniform(format, &modes, &options, 1).unwrap().network().params();
        assert_eq!(
            FormatShape::within(format, &modes, &options, smallest).unwrap().network().params(),
            smallest
        );
        let error = FormatShape::within(format, &modes, &options, smallest - 1).unwrap_err().to_string();
        assert!(error.contains(&format!("the smallest {} of these modes has {smallest}", format.name())));
    }
}

#[test]
fn impossible_shapes_say_what_is_wrong() {
    let square = modes(&[2, 3, 4], &[2, 2, 2], 1);
    let with = |name: &str, modes: &Modes, tree: &str, ranks: &[usize]| {
        let tree = (!tree.is_empty()).then(|| tree.parse()).transpose();
        let options = tree.map(|tree| Options { tree, ..Options::default() });
        options
            .and_then(|options| FormatShape::with_ranks(format(name), modes, &options, ranks))
            .map_or_else(|error| error.to_string(), |shape| format!("{shape} is possible"))
    };
    for (name, tree, ranks, said) in [
        ("ht", "((1 2) 4)", &[2][..], "the tree ((1 2) 4) misses mode 3 of 3"),
        ("ht", "((1 2) (3 3))", &[2], "has mode 3 too often"),
        ("ht", "(1 2", &[2], "is no binary tree"),
        ("ht", "(1 2) 3", &[2], "is no binary tree"),
        ("ht", "", &[5, 2, 2, 2], "rank r1 is above 4"),
        ("tucker", "", &[2, 7, 2], "rank r2 is above 4"),
        ("tr", "", &[2, 2], "has 3 ranks (r0, r1, r2), found [2, 2]"),
        ("cp", "", &[0], "index c has size 0"),
    ] {
        let found = with(name, &square, tree, ranks);
        assert!(found.contains(said), "{name} {tree} {ranks:?}: {found}");
    }
    assert!(with("ht", &square, &"(".repeat(1 << 20), &[2]).contains("is no binary tree"));
    let wrapped = with("cp", &modes(&[4], &[usize::MAX / 2 + 2], 2), "", &[1]);
    assert!(wrapped.contains("output mode"), "{wrapped}");
    let uneven = modes(&[2, 3, 4], &[2, 2], 1);
    for name in ["tr", "cp", "tucker", "bt", "ht"] {
        let found = with(name, &uneven, "", &[1]);
        assert!(found.contains("needs an output mode for every input mode, found 3 and 2"), "{found}");
    }
    assert!(with("ht", &square, "(2 (3 1))", &[2]).contains("is possible"));
    // The ranks of a ring have no largest one: each bound has a rank beside it that is as large.
    for (name, ranks) in [("tr", 30_000), ("tr-split", 30_000), ("cp-split", 100_000_000)] {
        let shape = FormatShape::uniform(format(name), &square, &Options::default(), ranks);
        let error = shape.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("numbers, and 268435456 is the most"), "{error}");
    }
}

/// A line as a tree is a Tensor Train, and the kernel of trains computes the same.
#[test]
fn a_train_is_a_network_too() {
    let shape = TtShape::uniform(&[4, 5], &[2, 3], 3, 2).unwrap();
    let modes = modes(&[4, 5], &[2, 3], 2);
    // Two leaves and the identity at the root.
    let tree = self::shape("ht", &modes, &[3]);
    let cores = drawn(shape.params(), "tests/network/cores");
    let x = drawn(6 * 20, "tests/network/rows");
    let mut expected = vec![0.0; 6 * 12];
    Fused::new(&shape, Affine::IDENTITY).forward(Rows::F32(&x), &cores, &mut expected, None).unwrap();
    let mut values = vec![0.0; tree.network().params()];
    // G_1 [(i, a), j] lies behind G_2 [i, (a, j)]; leaves are [i, j, a].
    for k in 0..2 {
        let (m, n) = ([4, 5][k], [4, 3][k]);
        let start = tree.network().range(k).start;
        for (i, j, a) in (0..m * n * 3).map(|at| (at / (3 * n), at / 3 % n, at % 3)) {
            values[start + (i * n + j) * 3 + a] = cores[shape.core_offset(k) + (i * 3 + a) * n + j];
        }
    }
    let root = tree.network().range(2).start;
    (0..3).for_each(|a| values[root + 4 * a] = 1.0);
    let mut found = vec![0.0; 6 * 12];
    Contracted::new(tree.network(), Affine::IDENTITY)
        .forward(Rows::F32(&x), &values, &mut found, None)
        .unwrap();
    close("train", &found, &expected.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
}

#[test]
fn committed_pictures_are_of_these_networks() {
    for format in FORMATS.into_iter().chain([&Train as &dyn Format]) {
        let path = format!("{}/../../docs/pictures/{}.svg", env!("CARGO_MANIFEST_DIR"), format.name());
        let committed = std::fs::read_to_string(&path).unwrap();
        let drawn = tt_core::network::draw::svg(tt_core::network::draw::example(format).unwrap().network());
        assert!(committed == drawn, "{path}: cargo run --release --example network_pictures writes it anew");
    }
}
