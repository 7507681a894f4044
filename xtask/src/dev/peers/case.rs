//! The case folder: shapes, frames and weights that all workers of a session read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::cli::bench::Cell;
use crate::dev::peers::plan::{BATCH, BLOCKS, FORMATS, HIDDEN, INPUT_MODES, OUTPUT_MODES, RANKS};

/// A written case.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) frames: usize,
    /// `case.json`.
    pub(super) header: PathBuf,
    /// Where each core lies in the flat vector: `(name, start, length)`.
    pub(super) cores: Vec<(String, usize, usize)>,
    gates: usize,
}

impl Case {
    /// Draws and writes the case of this cell and T below `data/cases`, with a dense matrix and with the cores of other
    /// formats where they are needed.
    pub(super) fn write(
        data: &Path,
        cell: Cell,
        frames: usize,
        (dense, formats): (bool, &[&'static str]),
    ) -> Result<Self> {
        let id = format!("{}-t{frames}", cell.name());
        let folder = data.join("cases").join(&id);
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let features = INPUT_MODES.iter().product();
        let gates = cell.gates();
        let cores = cores(gates);
        let core_len = cores.iter().map(|(_, _, length)| length).sum();
        let mut writer = Writer { folder: &folder, random: SplitMix(0x7474_2d72_6e6e), tensors: Map::new() };
        writer.bytes("x", &[BATCH, frames, features])?;
        // Deviations that keep the gates around 1: the pre-activation's variance is 57,600 / 3 times
        // 4^3 times the eighth power of a core's deviation.
        writer.floats("cores", &[core_len], 0.17)?;
        writer.floats("u", &[HIDDEN, gates * HIDDEN], 1.0 / 16.0)?;
        writer.floats("b", &[gates * HIDDEN], 0.1)?;
        writer.floats("r", &[BATCH, HIDDEN], 1.0)?;
        if dense {
            writer.floats("w", &[features, gates * HIDDEN], 0.006)?;
        }
        let mut ranks = Map::new();
        for (format, rank) in FORMATS.into_iter().filter(|(format, _)| formats.contains(format)) {
            let lengths = lengths(format, rank, gates);
            let paths = match format {
                "tr-split" => rank.pow(8),
                "bt" => BLOCKS * rank.pow(4),
                _ => rank,
            };
            // As above: the variance of a product of all cores is that of one to their number.
            let variance = 3.0 / (features * paths) as f64;
            let deviation = variance.powf(0.5 / lengths.len() as f64);
            writer.floats(&format!("cores.{format}"), &[lengths.iter().sum()], deviation)?;
            ranks.insert(format.to_owned(), json!(rank));
        }
        let header = json!({
            "format": 1, "id": id, "cell": cell.name(), "batch": BATCH, "frames": frames,
            "input_modes": INPUT_MODES, "output_modes": OUTPUT_MODES, "ranks": RANKS,
            "formats": ranks, "blocks": BLOCKS, "gates": gates, "hidden": HIDDEN, "pixel_scale": 1.0 / 255.0, "tensors": writer.tensors,
        });
        let path = folder.join("case.json");
        fs::write(&path, header.to_string())
            .with_context(|| format!("failed to write {}", path.display()))?;
        Ok(Self { id, frames, header: path, cores, gates })
    }

    /// Where each core of a format lies in its flat vector.
    pub(super) fn cores_of(&self, format: &str) -> Vec<(String, usize, usize)> {
        let rank = FORMATS.iter().find(|(name, _)| *name == format).map_or(0, |(_, rank)| *rank);
        let mut start = 0;
        let place = |(k, length): (usize, usize)| {
            let at = start;
            start += length;
            (format!("d_core{} of {format}", k + 1), at, length)
        };
        lengths(format, rank, self.gates).into_iter().enumerate().map(place).collect()
    }
}

/// Numbers of each core of a format, in the order of tt-core.
fn lengths(format: &str, rank: usize, gates: usize) -> Vec<usize> {
    let output = |k: usize| OUTPUT_MODES[k] * if k == 0 { gates } else { 1 };
    let outputs = (0..OUTPUT_MODES.len()).map(output);
    let all = INPUT_MODES.into_iter().chain(outputs.clone());
    match format {
        "tr-split" => all.map(|mode| rank * mode * rank).collect(),
        "bt" => {
            let factors = INPUT_MODES.into_iter().zip(outputs).map(|(m, n)| m * n * BLOCKS * rank);
            factors.chain([BLOCKS * rank.pow(INPUT_MODES.len() as u32)]).collect()
        }
        _ => all.map(|mode| mode * rank).collect(),
    }
}

/// Last core first, as tt-core lays them out.
fn cores(gates: usize) -> Vec<(String, usize, usize)> {
    let mut start = 0;
    let core = |k: usize| {
        let outputs = OUTPUT_MODES[k] * if k == 0 { gates } else { 1 };
        let length = INPUT_MODES[k] * RANKS[k + 1] * RANKS[k] * outputs;
        let at = start;
        start += length;
        (format!("d_core{}", k + 1), at, length)
    };
    (0..INPUT_MODES.len()).rev().map(core).collect()
}

struct Writer<'a> {
    folder: &'a Path,
    random: SplitMix,
    tensors: Map<String, Value>,
}

impl Writer<'_> {
    /// Uniform bytes.
    fn bytes(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        let len = shape.iter().product();
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.random.next().to_le_bytes());
        }
        bytes.truncate(len);
        self.blob(name, "u8", shape, &bytes)
    }

    /// Uniform numbers of mean 0 with this standard deviation.
    fn floats(&mut self, name: &str, shape: &[usize], deviation: f64) -> Result<()> {
        let width = deviation * 12.0_f64.sqrt();
        let mut bytes = Vec::with_capacity(4 * shape.iter().product::<usize>());
        for _ in 0..shape.iter().product() {
            let unit = (self.random.next() >> 11) as f64 / (1_u64 << 53) as f64;
            bytes.extend((((unit - 0.5) * width) as f32).to_le_bytes());
        }
        self.blob(name, "f32", shape, &bytes)
    }

    fn blob(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) -> Result<()> {
        let file = format!("{name}.{dtype}");
        let path = self.folder.join(&file);
        fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))?;
        self.tensors.insert(name.to_owned(), json!({"file": file, "dtype": dtype, "shape": shape}));
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): test data only, so that this program links no crate for it.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_lie_last_first() {
        let gru = cores(3);
        assert_eq!(gru[0], ("d_core4".to_owned(), 0, 288));
        assert_eq!(gru[3], ("d_core1".to_owned(), 288 + 1280 + 1280, 384));
    }

    /// BT-GRU of the literature, and what rings and sums of products of that many weights have.
    #[test]
    fn formats_have_the_weights_of_their_ranks() {
        let total = |format| {
            let rank = FORMATS.iter().find(|(name, _)| *name == format).unwrap().1;
            lengths(format, rank, 3).iter().sum::<usize>()
        };
        assert_eq!(["tr-split", "bt", "cp-split"].map(total), [25 * 90, 3_136, 35 * 90]);
    }

    #[test]
    fn splitmix_is_the_published_sequence() {
        let mut random = SplitMix(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
