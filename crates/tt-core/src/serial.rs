//! What serde reads before it is checked: the fields of types whose parts must fit each other.

use serde::Deserialize;

use crate::decomposition::{Core, Scalar};
use crate::{Error, Result, TtMatrix, TtShape, TtTensor};

#[derive(Deserialize)]
pub(crate) struct ShapeFields {
    input_modes: Vec<usize>,
    output_modes: Vec<usize>,
    ranks: Vec<usize>,
    gates: usize,
}

impl TryFrom<ShapeFields> for TtShape {
    type Error = Error;

    fn try_from(read: ShapeFields) -> Result<Self> {
        Self::new(&read.input_modes, &read.output_modes, &read.ranks, read.gates)
    }
}

#[derive(Deserialize)]
pub(crate) struct CoreFields<T> {
    left: usize,
    mode: usize,
    right: usize,
    values: Vec<T>,
}

impl<T: Scalar> TryFrom<CoreFields<T>> for Core<T> {
    type Error = Error;

    fn try_from(read: CoreFields<T>) -> Result<Self> {
        Self::new(read.left, read.mode, read.right, read.values)
    }
}

impl<T: Scalar> TryFrom<Vec<Core<T>>> for TtTensor<T> {
    type Error = Error;

    fn try_from(cores: Vec<Core<T>>) -> Result<Self> {
        Self::new(cores)
    }
}

impl<T> From<TtTensor<T>> for Vec<Core<T>> {
    fn from(train: TtTensor<T>) -> Self {
        train.into_cores()
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: Scalar + serde::de::DeserializeOwned")]
pub(crate) struct MatrixFields<T> {
    train: TtTensor<T>,
    input_modes: Vec<usize>,
    output_modes: Vec<usize>,
}

impl<T: Scalar> TryFrom<MatrixFields<T>> for TtMatrix<T> {
    type Error = Error;

    fn try_from(read: MatrixFields<T>) -> Result<Self> {
        Self::new(read.train, &read.input_modes, &read.output_modes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Backend;
    use crate::decomposition::{Truncation, tt_svd};

    #[test]
    fn what_is_written_comes_back_and_what_does_not_fit_is_refused() {
        let values: Vec<f64> = (0..24).map(f64::from).collect();
        let train = tt_svd(&values, &[4, 6], &Truncation::RelativeError(1e-9)).unwrap();
        let text = serde_json::to_string(&train).unwrap();
        assert_eq!(serde_json::from_str::<TtTensor<f64>>(&text).unwrap(), train);
        assert!(serde_json::from_str::<TtTensor<f64>>(&text.replace("\"mode\":4", "\"mode\":5")).is_err());
        let matrix = TtMatrix::new(train, &[2, 2], &[2, 3]).unwrap();
        let text = serde_json::to_string(&matrix).unwrap();
        assert_eq!(serde_json::from_str::<TtMatrix<f64>>(&text).unwrap(), matrix);
        let text = text.replace("\"input_modes\":[2,2]", "\"input_modes\":[2,3]");
        assert!(serde_json::from_str::<TtMatrix<f64>>(&text).is_err());

        let shape = TtShape::uniform(&[3, 4], &[2, 2], 2, 3).unwrap();
        let text = serde_json::to_string(&shape).unwrap();
        assert_eq!(serde_json::from_str::<TtShape>(&text).unwrap(), shape);
        assert!(serde_json::from_str::<TtShape>(&text.replace("\"gates\":3", "\"gates\":0")).is_err());
        assert_eq!(serde_json::to_string(&Backend::Fused).unwrap(), "\"fused\"");
        assert_eq!(serde_json::to_string(&crate::CoreInit::VarianceMatched).unwrap(), "\"variance-matched\"");
    }
}
