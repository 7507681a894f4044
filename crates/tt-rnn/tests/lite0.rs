//! Features of EfficientNet-Lite0 against PyTorch (`golden/lite0.py` makes the file), and weights that are none of it.

#![expect(clippy::unwrap_used, reason = "in tests, a failure to read the golden files is a failure")]

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use tt_core::simd::Isa;
use tt_rnn::lite0::{FEATURES, Lite0};

/// Of `unit` in `golden/lite0.py`.
fn unit(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed =
        name.bytes().fold(2_166_136_261_u32, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(16_777_619));
    (0..count as u32).map(move |place| {
        let mut x = place.wrapping_mul(2_654_435_761).wrapping_add(seed);
        x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
        f64::from((x ^ (x >> 16)) >> 8) / f64::from(1 << 24)
    })
}

fn value(name: &str, shape: &[usize]) -> Tensor {
    let fan_in: usize = shape[1..].iter().product();
    let scaled = unit(name, shape.iter().product()).map(|u| match shape.len() {
        4 => (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt(),
        _ if name.ends_with(".weight") || name.ends_with(".running_var") => 0.8 + 0.4 * u,
        _ => 0.2 * u - 0.1,
    });
    Tensor::from_vec(scaled.map(|v| v as f32).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

/// Every tensor of the network, in order.
fn tensors() -> Vec<(String, Tensor)> {
    let mut all: Vec<(String, Vec<usize>)> = Vec::new();
    let mut layer = |conv: String, norm: String, shape: [usize; 4]| {
        all.push((format!("{conv}.weight"), shape.to_vec()));
        let parts = ["weight", "bias", "running_mean", "running_var"];
        all.extend(parts.map(|part| (format!("{norm}.{part}"), vec![shape[0]])));
    };
    layer("_conv_stem".into(), "_bn0".into(), [32, 3, 3, 3]);
    let (mut inputs, mut block) = (32, 0);
    let stages = [(1, 3, 16), (2, 3, 24), (2, 5, 40), (3, 3, 80), (3, 5, 112), (4, 5, 192), (1, 3, 320)];
    for (stage, (repeats, kernel, outputs)) in stages.into_iter().enumerate() {
        for _ in 0..repeats {
            let of = |name: &str| format!("_blocks.{block}.{name}");
            let wide = if stage == 0 { inputs } else { 6 * inputs };
            if stage > 0 {
                layer(of("_expand_conv"), of("_bn0"), [wide, inputs, 1, 1]);
            }
            layer(of("_depthwise_conv"), of("_bn1"), [wide, 1, kernel, kernel]);
            layer(of("_project_conv"), of("_bn2"), [outputs, wide, 1, 1]);
            (inputs, block) = (outputs, block + 1);
        }
    }
    layer("_conv_head".into(), "_bn1".into(), [1280, inputs, 1, 1]);
    all.into_iter().map(|(name, shape)| (name.clone(), value(&name, &shape))).collect()
}

fn pattern(width: usize, height: usize) -> Vec<u8> {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    let byte = |(y, x): (usize, usize), c: usize| {
        (7 * x + 11 * y + 37 * c + x * y % 29 + 64 * (x / 16 * (y / 16) % 3)) as u8
    };
    pixels.flat_map(|pixel| (0..3).map(move |c| byte(pixel, c))).collect()
}

/// f32 through 49 layers, whose numbers are below 10: the two orders of summation differ by some 1e-5.
const TOLERANCE: f32 = 1e-4;

#[test]
fn features_agree_with_pytorch_at_every_size() {
    let path = format!("{}/tests/golden/lite0.safetensors", env!("CARGO_MANIFEST_DIR"));
    let golden = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let tensors: HashMap<String, Tensor> = tensors().into_iter().collect();
    for isa in Isa::available() {
        let network = Lite0::of(&tensors, isa).unwrap();
        for (width, height) in [(160, 120), (224, 224), (97, 61)] {
            let mut found = vec![0.0; FEATURES];
            network.features(&pattern(width, height), (width, height), &mut found).unwrap();
            let golden: Vec<f32> = golden[&format!("{width}x{height}")].to_vec1().unwrap();
            for (at, (ours, theirs)) in found.iter().zip(&golden).enumerate() {
                let gap = (ours - theirs).abs();
                assert!(gap < TOLERANCE, "{} {width}x{height} [{at}]: {ours}, {theirs}", isa.name());
            }
            assert!(golden.iter().any(|value| *value > 0.5), "features that say nothing");
        }
    }
}

#[test]
fn frames_beside_a_frame_and_threads_change_no_bit() {
    let network = Lite0::of(&tensors().into_iter().collect(), Isa::best()).unwrap();
    let frames: Vec<u8> = (0..7_u8).flat_map(|f| pattern(40, 33).into_iter().map(move |b| b ^ f)).collect();
    let frame = frames.len() / 7;
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut found = vec![0.0; 7 * FEATURES];
        pool.install(|| network.features(&frames, (40, 33), &mut found)).unwrap();
        found
    };
    let together = on(1);
    assert_eq!(together, on(3));
    let mut alone = vec![0.0; FEATURES];
    for (at, frame) in frames.chunks(frame).enumerate() {
        network.features(frame, (40, 33), &mut alone).unwrap();
        assert_eq!(alone, together[at * FEATURES..(at + 1) * FEATURES], "frame {at}");
    }
}

#[test]
fn weights_of_another_network_name_the_first_tensor_that_does_not_fit() {
    let whole: HashMap<String, Tensor> = tensors().into_iter().collect();
    let refused = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        let mut tensors = whole.clone();
        change(&mut tensors);
        Lite0::of(&tensors, Isa::best()).unwrap_err()
    };
    let missing = refused(&|tensors| {
        tensors.remove("_blocks.9._bn0.bias");
        tensors.remove("_bn1.weight");
    });
    assert_eq!(missing, "tensor \"_blocks.9._bn0.bias\" of EfficientNet-Lite0, [672], is missing");
    let wide = refused(&|tensors| {
        let other = Tensor::zeros((32, 3, 5, 5), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("_conv_stem.weight".into(), other);
    });
    assert!(wide.contains("\"_conv_stem.weight\" has shape [32, 3, 5, 5]"), "{wide}");
    assert!(wide.contains("has [32, 3, 3, 3]"), "{wide}");
    let broken = refused(&|tensors| {
        let other = Tensor::full(f32::NAN, 16, &Device::Cpu).unwrap();
        tensors.insert("_blocks.0._bn2.running_var".into(), other);
    });
    assert!(broken.contains("\"_blocks.0._bn2.running_var\" holds NaN"), "{broken}");
}

#[test]
fn frames_smaller_than_the_last_map_s_pixel_are_refused() {
    let network = Lite0::of(&tensors().into_iter().collect(), Isa::best()).unwrap();
    let small = network.features(&[0; 3 * 31 * 32], (31, 32), &mut [0.0; FEATURES]).unwrap_err();
    let said = small.to_string();
    assert!(said.contains("frames of 31x32") && said.contains("must be at least 32"), "{said}");
}
