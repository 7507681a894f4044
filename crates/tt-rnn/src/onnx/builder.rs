//! A graph put together node by node; values are named after what made them.

use super::schema::{
    Attribute, Dimension, Extent, FLOAT, FLOAT16, Graph, INT8, INT64, Node, Shape, Tensor, TensorType, Type,
    Value,
};
use crate::folder::Numbers;
use crate::folder::numbers::{half, whole};
use std::collections::BTreeMap;

/// An attribute of a node.
pub(super) enum Setting<'a> {
    Float(f32),
    Int(i64),
    Text(&'a str),
    Floats(&'a [f32]),
    Ints(&'a [i64]),
    Strings(&'a [&'a str]),
    Body(Graph),
}

/// The extent of an axis.
#[derive(Clone, Copy)]
pub(super) enum Axis {
    /// Known when the model is written.
    Of(usize),
    /// Known when it runs.
    Named(&'static str),
}

/// A graph that grows.
#[derive(Default)]
pub(super) struct Builder {
    graph: Graph,
    numbers: Numbers,
    /// Weights that are there already, by name: the values that they are used as.
    weights: BTreeMap<String, String>,
}

impl Builder {
    pub(super) fn new(name: &str, numbers: Numbers) -> Self {
        Self { graph: Graph { name: name.into(), ..Graph::default() }, numbers, ..Self::default() }
    }

    /// An operator with one output, whose name is returned.
    pub(super) fn op(&mut self, kind: &str, inputs: &[&str], settings: &[(&str, Setting<'_>)]) -> String {
        let output = self.name(kind);
        self.node(kind, inputs, &[&output], settings);
        output
    }

    /// An operator with outputs of these names; an empty name is an input or output that is left out.
    pub(super) fn node(
        &mut self,
        kind: &str,
        inputs: &[&str],
        outputs: &[&str],
        settings: &[(&str, Setting<'_>)],
    ) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.graph.node.push(Node {
            input: owned(inputs),
            output: owned(outputs),
            name: outputs.iter().find(|name| !name.is_empty()).map_or_else(String::new, |n| (*n).to_owned()),
            op_type: kind.into(),
            attribute: settings.iter().map(|(name, setting)| attribute(name, setting)).collect(),
        });
    }

    /// Columns of a matrix in parts of these widths.
    pub(super) fn split(&mut self, value: &str, widths: &[usize]) -> Vec<String> {
        let sizes = self.integers(&widths.iter().map(|width| *width as i64).collect::<Vec<_>>());
        let stem = self.name("Split");
        let parts: Vec<String> = (0..widths.len()).map(|part| format!("{stem}.{part}")).collect();
        let outputs: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.node("Split", &[value, &sizes], &outputs, &[("axis", Setting::Int(-1))]);
        parts
    }

    pub(super) fn reshape(&mut self, value: &str, shape: &[i64]) -> String {
        let shape = self.integers(shape);
        self.op("Reshape", &[value, &shape], &[])
    }

    /// A weight as the graph keeps it, once under its name, made f32 where it is used; of a matrix, `outputs` is the axis
    /// of the outputs.
    pub(super) fn weight(
        &mut self,
        name: &str,
        dims: &[usize],
        values: &[f32],
        outputs: Option<usize>,
    ) -> String {
        if let Some(there) = self.weights.get(name) {
            return there.clone();
        }
        let value = self.new_weight(name, dims, values, outputs);
        self.weights.insert(name.to_owned(), value.clone());
        value
    }

    fn new_weight(&mut self, name: &str, dims: &[usize], values: &[f32], outputs: Option<usize>) -> String {
        let shape = || dims.iter().map(|dim| *dim as i64).collect();
        match (self.numbers, outputs) {
            (Numbers::F32, _) => self.floats(name, dims, values),
            (Numbers::Int8, Some(axis)) => {
                let inner = dims[axis + 1..].iter().product();
                let (numbers, scales) = whole(values, dims[axis], inner);
                let bytes = numbers.into_iter().map(|number| number as u8).collect();
                let numbers = self.tensor(format!("{name}.int8"), INT8, shape(), bytes);
                let mut across = vec![1; dims.len() - axis];
                across[0] = dims[axis];
                let scale = self.floats(&format!("{name}.scale"), &across, &scales);
                // Not DequantizeLinear: onnxruntime makes whole numbers of the other factor, too, where it finds one
                // before a product.
                let numbers = self.op("Cast", &[&numbers], &[("to", Setting::Int(i64::from(FLOAT)))]);
                self.op("Mul", &[&numbers, &scale], &[])
            }
            (Numbers::F16 | Numbers::Int8, _) => {
                let halves = self.tensor(format!("{name}.f16"), FLOAT16, shape(), half(values));
                self.op("Cast", &[&halves], &[("to", Setting::Int(i64::from(FLOAT)))])
            }
        }
    }

    /// A constant in f32.
    pub(super) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name.to_owned(), FLOAT, dims.iter().map(|dim| *dim as i64).collect(), raw_data)
    }

    pub(super) fn integers(&mut self, values: &[i64]) -> String {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let name = format!("{}.integers.{}", self.graph.name, self.graph.initializer.len());
        self.tensor(name, INT64, vec![values.len() as i64], raw_data)
    }

    fn tensor(&mut self, name: String, data_type: i32, dims: Vec<i64>, raw_data: Vec<u8>) -> String {
        self.graph.initializer.push(Tensor { dims, data_type, name: name.clone(), raw_data });
        name
    }

    pub(super) fn input(&mut self, name: &str, elements: i32, axes: &[Axis]) {
        self.graph.input.push(value(name, elements, axes));
    }

    pub(super) fn output(&mut self, name: &str, axes: &[Axis]) {
        self.graph.output.push(value(name, FLOAT, axes));
    }

    pub(super) fn finish(self) -> Graph {
        self.graph
    }

    fn name(&self, kind: &str) -> String {
        // Names of a body and of the graph around it must differ too.
        format!("{}.{}.{}", self.graph.name, self.graph.node.len(), kind)
    }
}

fn attribute(name: &str, setting: &Setting<'_>) -> Attribute {
    let mut attribute = Attribute { name: name.into(), ..Attribute::default() };
    match setting {
        Setting::Float(value) => (attribute.f, attribute.kind) = (Some(*value), 1),
        Setting::Int(value) => (attribute.i, attribute.kind) = (Some(*value), 2),
        Setting::Text(value) => (attribute.s, attribute.kind) = (Some(value.as_bytes().to_vec()), 3),
        Setting::Body(graph) => (attribute.g, attribute.kind) = (Some(graph.clone()), 5),
        Setting::Floats(values) => (attribute.floats, attribute.kind) = (values.to_vec(), 6),
        Setting::Ints(values) => (attribute.ints, attribute.kind) = (values.to_vec(), 7),
        Setting::Strings(values) => {
            attribute.strings = values.iter().map(|value| value.as_bytes().to_vec()).collect();
            attribute.kind = 8;
        }
    }
    attribute
}

fn value(name: &str, elem_type: i32, axes: &[Axis]) -> Value {
    let dimension = |axis: &Axis| Dimension {
        extent: Some(match axis {
            Axis::Of(extent) => Extent::Fixed(*extent as i64),
            Axis::Named(name) => Extent::Named((*name).to_owned()),
        }),
    };
    let shape = Some(Shape { dim: axes.iter().map(dimension).collect() });
    let tensor_type = Some(TensorType { elem_type, shape });
    Value { name: name.into(), r#type: Some(Type { tensor_type }) }
}
