//! The records of a comparison of devices: a row per model and device.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::device::{DeviceName, Precision};
use crate::record::CellRecord;

/// Header of a comparison's `table.csv`.
pub const DEVICES_HEADER: &str = "data,device,card,precision,model,epochs,epoch_s,frames_wait,peak_rss_bytes,\
                                        peak_card_bytes,energy_j,metric,value,loss_difference";

/// A row of a comparison: a model on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Which data; a rendered sample says so.
    pub data: String,
    /// Kind of device.
    pub device: String,
    /// The card's own name; empty for the CPU.
    pub card: String,
    /// Precision of a card's products.
    pub precision: Precision,
    /// Name of the model.
    pub model: String,
    /// Epochs trained.
    pub epochs: usize,
    /// Mean wall seconds of an epoch without the first; none unless the cell ran alone on all cores.
    pub epoch_s: Option<f64>,
    /// Share of the training time spent waiting for frames.
    pub frames_wait: Option<f64>,
    /// Peak resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// Of the card's memory, where it tells.
    pub peak_card_bytes: Option<u64>,
    /// Of the card, from the first step to the last.
    pub energy_j: Option<f64>,
    /// `accuracy` or `map`.
    pub metric: String,
    /// Score of the final epoch, in [0, 1].
    pub value: f64,
    /// Largest difference of an epoch's training loss from that on the first device, relative to the latter; none for
    /// the first.
    pub loss_difference: Option<f64>,
}

/// A record as a row; `losses` are those of the first device by model.
pub fn row(
    data: &str,
    device: DeviceName,
    record: CellRecord,
    losses: &mut BTreeMap<String, Vec<f64>>,
) -> DeviceRow {
    let own: Vec<f64> = record.curve.iter().map(|point| point.train_loss).collect();
    let loss_difference = losses.get(&record.model).map(|first| {
        first.iter().zip(&own).map(|(first, own)| ((own - first) / first).abs()).fold(0.0, f64::max)
    });
    losses.entry(record.model.clone()).or_insert(own);
    let card = record.card.as_ref();
    DeviceRow {
        data: data.to_owned(),
        device: device.to_string(),
        card: card.map_or_else(String::new, |card| card.name.clone()),
        precision: card.map_or(Precision::F32, |card| card.precision),
        peak_card_bytes: card.and_then(|card| card.peak_bytes),
        energy_j: card.and_then(|card| card.energy_j),
        model: record.model,
        epochs: record.epochs,
        epoch_s: record.epoch_s,
        frames_wait: record.frames_wait,
        peak_rss_bytes: record.peak_rss_bytes,
        metric: record.metric,
        value: record.value,
        loss_difference,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The row of some record.
    pub(crate) fn row_of(model: &str) -> DeviceRow {
        row("clips", DeviceName::Cpu, crate::results::fixture::cell_record(model), &mut BTreeMap::new())
    }

    #[test]
    fn losses_are_compared_with_those_of_the_first_device() {
        let mut losses = BTreeMap::new();
        let record = |losses: &[f64]| {
            let mut record = crate::results::fixture::cell_record("tt-gru");
            let point = |(epoch, loss): (usize, &f64)| crate::record::CurvePoint {
                epoch: epoch + 1,
                train_loss: *loss,
                train_value: 0.5,
                test_value: None,
                wall_s: 1.0,
            };
            record.curve = losses.iter().enumerate().map(point).collect();
            record
        };
        assert_eq!(row("clips", DeviceName::Cpu, record(&[2.0, 1.0]), &mut losses).loss_difference, None);
        let second = row("clips", DeviceName::Cuda(1), record(&[2.0, 1.25]), &mut losses);
        assert_eq!((second.device.as_str(), second.loss_difference), ("cuda:1", Some(0.25)));
    }

    #[test]
    fn the_header_is_that_of_the_rows() {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(row_of("gru")).unwrap();
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        assert_eq!(text.lines().next(), Some(DEVICES_HEADER));
    }
}
