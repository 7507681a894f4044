//! Prints what a training step of a model costs on UCF11's frames: forward, backward, Adam, and floors.
//!
//! `cargo run --release -p tt-rnn --example training_step [model] [frames] [rounds] [backend]`: any model of frames, 16 clips of so
//! many; one thread, minimum process CPU time. Backend `ops` is candle's operators. The last line has a digest of all weights after the steps: the same on
//! two builds of this program means the same bits.
#![expect(clippy::print_stdout, reason = "a table for people")]

use anyhow::Result;
use candle_core::{Device, Tensor};
use rand::RngExt;
use sha2::{Digest, Sha256};
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;
use tt_core::{bench, rng};
use tt_rnn::adam::AdamConfig;
use tt_rnn::models::{
    CnnKernels, CnnSize, FormatSettings, Mode, ModelConfig, PackedFrames, RecurrentForm, Stack, find,
};
use tt_rnn::parameters::Optimizer;
use tt_rnn::projection::GateLayout;
use tt_rnn::rates::{RateRule, Rates};
use tt_rnn::recurrence::GateActivation;

const CLIPS: usize = 16;

/// UCF11 with the recipe `scaled`.
fn ucf11() -> ModelConfig {
    ModelConfig {
        features: 57_600,
        width: 160,
        classes: 11,
        input_modes: vec![8, 20, 20, 18],
        output_modes: vec![4; 4],
        rank: 4,
        gates: GateLayout::Concatenated,
        core_init: CoreInit::Glorot1d,
        backend: Backend::Fused,
        precision: Precision::F32,
        dense_hidden: 256,
        stack: Stack::default(),
        recurrent: RecurrentForm::Dense,
        gate_activation: GateActivation::HardSigmoid,
        affine: Affine { scale: 1.0 / 127.5, shift: -1.0 },
        mlp_frames: 6,
        mlp_input_modes: vec![8, 20, 20, 108],
        mlp_rank: 4,
        recurrent_dropout: 0.25,
        dense_masks_per_gate: false,
        dense_input_dropout: 0.0,
        tt_input_dropout: 0.0,
        warm_up_to: 0,
        classifier_l2: 0.01,
        formats: FormatSettings::default(),
        cnn: CnnSize::default(),
        cnn_kernels: CnnKernels::Dense,
        attention_penalty: 0.0,
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "gru".into());
    let frames = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let backend = arguments.next().map_or(Ok(Backend::Fused), |text| text.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| steps(&model, frames, rounds, backend))
}

fn steps(name: &str, frames: usize, rounds: usize, backend: Backend) -> Result<()> {
    let config = ModelConfig { backend, ..ucf11() };
    let model = find(name)?.build(&config, &Device::Cpu, 1)?;
    let mut stream = rng::stream(1, "example/training_step");
    let rows = CLIPS * frames;
    let pixels: Vec<u8> = (0..rows * config.features).map(|_| stream.random()).collect();
    let rows = Tensor::from_vec(pixels, (rows, config.features), &Device::Cpu)?;
    let batch = PackedFrames::new(rows, vec![frames; CLIPS]);
    let labels: Vec<u32> = (0..CLIPS as u32).map(|clip| clip % 11).collect();
    let labels = Tensor::new(labels, &Device::Cpu)?;
    let rates = Rates { lr: 1e-3, rule: RateRule::FanIn, input_factor: 1.0 };
    let mut optimizer = Optimizer::new(AdamConfig::default(), rates, model.parameters())?;
    let mut best = [f64::MAX; 4];
    for round in 0..rounds {
        let mut masks = rng::stream(round as u64, "example/masks");
        let start = bench::cpu_time_s();
        let logits = model.logits(&batch, Mode::Train(&mut masks))?;
        let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
        let forward = bench::cpu_time_s();
        let gradients = loss.backward()?;
        let backward = bench::cpu_time_s();
        optimizer.step(&gradients)?;
        let end = bench::cpu_time_s();
        let parts = [forward - start, backward - forward, end - backward, end - start];
        best.iter_mut().zip(parts).for_each(|(best, part)| *best = best.min(part));
    }
    let [forward, backward, adam, step] = best.map(|seconds| 1e3 * seconds);
    println!(
        "{name} ({backend}), 16 clips of {frames} frames: {step:.1} ms = forward {forward:.1}, backward {backward:.1}, Adam {adam:.1}"
    );
    let weights: usize = model.parameters().iter().map(|p| p.var.elem_count()).sum();
    let reading = 12.0 * weights as f64 / bench::read_bandwidth_gbs() / 1e6;
    println!("floors: {reading:.1} ms a reading of parameters and moments");
    if let Some(gates) =
        [("gru", 3), ("lstm", 4)].iter().find(|(dense, _)| *dense == name).map(|(_, gates)| gates)
    {
        let products = 2.0 * (CLIPS * frames * config.features * 256 * gates) as f64;
        println!("{:.1} ms a product of frames and matrix", products / bench::fma_peak_gflops() / 1e6);
    }
    let mut digest = Sha256::new();
    for parameter in optimizer.parameters() {
        for value in parameter.var.flatten_all()?.to_vec1::<f32>()? {
            digest.update(value.to_bits().to_le_bytes());
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("peak unknown");
    let digest = digest.finalize();
    println!("{peak}; weights {:02x?}", &digest[..8]);
    Ok(())
}
