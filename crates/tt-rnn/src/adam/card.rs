//! Adam on an NVIDIA card: one kernel for values that share a rate, in place of a dozen operators.
#![cfg_attr(feature = "cuda", expect(unsafe_code, reason = "a kernel's arguments are checked by nobody"))]

use super::Rule;
use tt_core::cuda::{Launch, Source};

/// The kernel.
fn source() -> Source {
    Source::new("adam.cu", include_str!("adam.cu"))
}

/// Its launch for so many values: memory is busy with that many blocks.
fn launch(count: usize) -> Launch {
    Launch::new("adam", count.div_ceil(256).clamp(1, 2048), 256, 0)
}

impl Rule {
    /// The kernel's last arguments.
    fn arguments(&self) -> [f32; 8] {
        let Self { rate, keep1, new1, keep2, new2, epsilon, decay, shrink, .. } = *self;
        [rate, keep1, new1, keep2, new2, epsilon, decay, shrink]
    }
}

#[cfg(feature = "cuda")]
mod update {
    use super::{Rule, launch, source};
    use candle_core::cuda_backend::cudarc::driver::PushKernelArg as _;
    use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Tensor, bail};
    use std::ops::Range;
    use tt_core::cuda::launch::{Kernel, view};

    /// A step of one parameter, to be applied in place. The moments are the optimiser's alone, and change with it.
    pub(crate) struct Update<'a> {
        /// Runs of values and their rules.
        pub(crate) rules: Vec<(usize, Rule)>,
        pub(crate) gradient: &'a Tensor,
        pub(crate) moments: [&'a Tensor; 2],
        /// One number that the gradient is multiplied by.
        pub(crate) scale: Option<&'a Tensor>,
    }

    impl InplaceOp1 for Update<'_> {
        fn name(&self) -> &'static str {
            "adam"
        }

        fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
            bail!("this update is for parameters on CUDA")
        }

        fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
            let Some((begin, end)) = layout.contiguous_offsets() else { bail!("a parameter is contiguous") };
            let count: usize = self.rules.iter().map(|(count, _)| count).sum();
            let [m, v] = self.moments;
            let gradient = self.gradient.contiguous()?;
            for (what, found) in [
                ("parameter", end - begin),
                ("gradient", gradient.elem_count()),
                ("first moment", m.elem_count()),
                ("second moment", v.elem_count()),
            ] {
                if found != count {
                    bail!("{what}: expected {count} values, found {found}");
                }
            }
            let (gradient, m, v) =
                (gradient.storage_and_layout(), m.storage_and_layout(), v.storage_and_layout());
            let (gradient, m, v) = (view::<f32>(&gradient)?, view::<f32>(&m)?, view::<f32>(&v)?);
            let scale = self.scale.map(Tensor::storage_and_layout);
            let scale = scale.as_ref().map(view::<f32>).transpose()?;
            let device = storage.device.clone();
            let param = storage.as_cuda_slice_mut::<f32>()?;
            let (mut start, null) = (0, 0_u64);
            for (count, rule) in &self.rules {
                let run: Range<usize> = start..start + count;
                start = run.end;
                let mut param = param.slice_mut(begin + run.start..begin + run.end);
                let (gradient, m, v) =
                    (gradient.slice(run.clone()), m.slice(run.clone()), v.slice(run.clone()));
                let kernel = Kernel::load(&device, &source(), &launch(*count))?;
                let (numbers, count) = (rule.arguments(), *count as i64);
                let mut arguments = kernel.arguments();
                arguments.arg(&mut param).arg(&gradient).arg(&m).arg(&v);
                match &scale {
                    Some(scale) => arguments.arg(scale),
                    None => arguments.arg(&null),
                };
                arguments.arg(&count);
                for number in &numbers {
                    arguments.arg(number);
                }
                // SAFETY: the arguments are those of `adam`, all of `count` values; nothing else holds the moments.
                unsafe { kernel.launch(&mut arguments)? };
            }
            Ok(())
        }
    }
}

#[cfg(feature = "cuda")]
pub(crate) use update::Update;

#[cfg(test)]
mod tests {
    use super::super::{Adam, AdamConfig, AdamState};
    use super::*;
    use crate::gradient::Gradient;
    use tt_core::cuda::emulation::{Argument, available, emulate};

    #[test]
    fn the_kernel_follows_the_cpus() {
        if !available() {
            eprintln!("skipped: no C++ compiler for the emulation of CUDA kernels");
            return;
        }
        let values = |purpose: &str| -> Vec<f32> {
            use rand::RngExt as _;
            let mut rng = tt_core::rng::stream(7, purpose);
            (0..700).map(|_| rng.random_range(-1.0f32..1.0)).collect()
        };
        let config = AdamConfig { weight_decay: 0.3, ..AdamConfig::default() };
        let adam = Adam::new(config);
        let (mut expected, mut found, mut state) = (values("p"), values("p"), AdamState::new(700));
        let (mut m, mut v, mut scale) = (vec![0.0; 700], vec![0.0; 700], [0.5_f32]);
        let runs = [(300, 0.01), (400, 0.002)];
        for t in 1..=5 {
            let mut gradient = values(&format!("g{t}"));
            adam.update(t, &runs, &mut expected, Gradient::Values(&gradient), &mut state, 0.05, 0.5).unwrap();
            let mut start = 0;
            for (count, lr) in runs {
                let run = start..start + count;
                start += count;
                let numbers = adam.rule(t, lr, 0.05, 0.5).arguments();
                let mut arguments = vec![
                    Argument::F32(&mut found[run.clone()]),
                    Argument::F32(&mut gradient[run.clone()]),
                    Argument::F32(&mut m[run.clone()]),
                    Argument::F32(&mut v[run]),
                    Argument::F32(&mut scale),
                    Argument::Long(count as i64),
                ];
                arguments.extend(numbers.map(Argument::Float));
                emulate(&source(), &Launch { grid: [2, 1, 1], ..launch(count) }, &mut arguments).unwrap();
            }
            // A few roundings of numbers near 1 a step.
            for (of, a, b) in [("p", &found, &expected), ("m", &m, &state.m), ("v", &v, &state.v)] {
                for (k, (a, b)) in a.iter().zip(b).enumerate() {
                    assert!(
                        (a - b).abs() <= 4.0 * t as f32 * f32::EPSILON,
                        "step {t}, {of}[{k}]: {a} not {b}"
                    );
                }
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_kernel_compiles_for_gpus() {
        let Some(library) = std::env::var_os("TT_NVRTC") else {
            eprintln!("skipped: Adam's kernel is not compiled for GPUs (TT_NVRTC names no libnvrtc.so)");
            return;
        };
        let nvrtc = tt_core::cuda::nvrtc::Nvrtc::open(library.as_ref()).unwrap();
        for architecture in ["sm_80", "sm_90"] {
            let (binary, log) = nvrtc.compile(&source(), architecture).unwrap();
            assert!(binary.starts_with(b"\x7fELF"));
            assert_eq!(log, "", "{architecture}");
        }
    }
}
