//! Writes small ONNX models, byte by byte, so that a test or a bench needs no file and no Python.
//!
//! Only what small graphs need of `onnx.proto`: tensors with fixed or named dimensions, initializers, nodes with the
//! usual attributes. Nothing is checked: ONNX Runtime does that, and tests want to write wrong models too.
//!
//! ```
//! use switchback_onnx::ElementType::F32;
//! use switchback_onnx::model_builder::ModelBuilder;
//!
//! let bytes = ModelBuilder::new()
//!     .input("x", F32, &[1, 4])
//!     .output("y", F32, &[1, 4])
//!     .f32s("two", &[], &[2.0])
//!     .node("Mul", &["x", "two"], &["y"])
//!     .build();
//! assert!(!bytes.is_empty());
//! ```

use crate::tensor::ElementType;

/// The intermediate representation and operator set written; both are old enough for ONNX Runtime 1.23.
const IR_VERSION: u64 = 9;
const OPSET: u64 = 17;

/// One dimension of a model's input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension<'a> {
    /// A known size.
    Fixed(usize),
    /// A size known only when the model runs.
    Dynamic(&'a str),
}

/// The value of a node's attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attribute<'a> {
    /// A number.
    Int(i64),
    /// A real number.
    Float(f32),
    /// Several numbers.
    Ints(&'a [i64]),
    /// A text.
    Text(&'a str),
}

/// A graph under construction; see the [module](self).
#[derive(Debug, Clone, Default)]
pub struct ModelBuilder {
    nodes: Vec<u8>,
    initializers: Vec<u8>,
    inputs: Vec<u8>,
    outputs: Vec<u8>,
}

impl ModelBuilder {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input of a fixed shape.
    #[must_use]
    pub fn input(self, name: &str, element: ElementType, shape: &[usize]) -> Self {
        self.input_with(name, element, &fixed(shape))
    }

    /// Adds an output of a fixed shape.
    #[must_use]
    pub fn output(self, name: &str, element: ElementType, shape: &[usize]) -> Self {
        self.output_with(name, element, &fixed(shape))
    }

    /// Adds an input that may have dynamic dimensions.
    #[must_use]
    pub fn input_with(mut self, name: &str, element: ElementType, shape: &[Dimension<'_>]) -> Self {
        message(&mut self.inputs, 11, &value_info(name, element, shape));
        self
    }

    /// Adds an output that may have dynamic dimensions.
    #[must_use]
    pub fn output_with(mut self, name: &str, element: ElementType, shape: &[Dimension<'_>]) -> Self {
        message(&mut self.outputs, 12, &value_info(name, element, shape));
        self
    }

    /// Adds an output whose type and shape ONNX Runtime is left to infer.
    #[must_use]
    pub fn output_inferred(mut self, name: &str) -> Self {
        let mut info = Vec::new();
        message(&mut info, 1, name.as_bytes());
        message(&mut self.outputs, 12, &info);
        self
    }

    /// Adds an f32 constant.
    #[must_use]
    pub fn f32s(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        self.constant(name, ElementType::F32, shape, values.iter().flat_map(|value| value.to_le_bytes()))
    }

    /// Adds an i64 constant, such as a shape, axes or an index.
    #[must_use]
    pub fn i64s(self, name: &str, shape: &[usize], values: &[i64]) -> Self {
        self.constant(name, ElementType::I64, shape, values.iter().flat_map(|value| value.to_le_bytes()))
    }

    /// Adds a node without attributes.
    #[must_use]
    pub fn node(self, operator: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self.node_with(operator, inputs, outputs, &[])
    }

    /// Adds a node with attributes.
    #[must_use]
    pub fn node_with(mut self, operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Attribute<'_>)]) -> Self {
        // NodeProto: input 1, output 2, op_type 4, attribute 5.
        let mut node = Vec::new();
        inputs.iter().for_each(|name| message(&mut node, 1, name.as_bytes()));
        outputs.iter().for_each(|name| message(&mut node, 2, name.as_bytes()));
        message(&mut node, 4, operator.as_bytes());
        attributes.iter().for_each(|&(name, value)| message(&mut node, 5, &attribute(name, value)));
        message(&mut self.nodes, 1, &node);
        self
    }

    /// The model as the bytes of a `.onnx` file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        // GraphProto: node 1, name 2, initializer 5, input 11, output 12.
        let mut graph = self.nodes.clone();
        message(&mut graph, 2, b"graph");
        graph.extend_from_slice(&self.initializers);
        graph.extend_from_slice(&self.inputs);
        graph.extend_from_slice(&self.outputs);
        // ModelProto: ir_version 1, graph 7, opset_import 8 (version 2).
        let mut opset = Vec::new();
        number(&mut opset, 2, OPSET);
        let mut model = Vec::new();
        number(&mut model, 1, IR_VERSION);
        message(&mut model, 7, &graph);
        message(&mut model, 8, &opset);
        model
    }

    fn constant(mut self, name: &str, element: ElementType, shape: &[usize], little_endian: impl Iterator<Item = u8>) -> Self {
        // TensorProto: dims 1, data_type 2, name 8, raw_data 9.
        let mut tensor = Vec::new();
        shape.iter().for_each(|&dimension| number(&mut tensor, 1, dimension as u64));
        number(&mut tensor, 2, element.to_ort() as u64);
        message(&mut tensor, 8, name.as_bytes());
        message(&mut tensor, 9, &little_endian.collect::<Vec<u8>>());
        message(&mut self.initializers, 5, &tensor);
        self
    }
}

fn fixed(shape: &[usize]) -> Vec<Dimension<'static>> {
    shape.iter().map(|&dimension| Dimension::Fixed(dimension)).collect()
}

fn value_info(name: &str, element: ElementType, shape: &[Dimension<'_>]) -> Vec<u8> {
    // TensorShapeProto: dim 1 {dim_value 1, dim_param 2}.
    let mut dimensions = Vec::new();
    for dimension in shape {
        let mut proto = Vec::new();
        match dimension {
            Dimension::Fixed(size) => number(&mut proto, 1, *size as u64),
            Dimension::Dynamic(symbol) => message(&mut proto, 2, symbol.as_bytes()),
        }
        message(&mut dimensions, 1, &proto);
    }
    // TypeProto: tensor_type 1 {elem_type 1, shape 2}; ValueInfoProto: name 1, type 2.
    let mut tensor = Vec::new();
    number(&mut tensor, 1, element.to_ort() as u64);
    message(&mut tensor, 2, &dimensions);
    let mut kind = Vec::new();
    message(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    message(&mut info, 1, name.as_bytes());
    message(&mut info, 2, &kind);
    info
}

fn attribute(name: &str, value: Attribute<'_>) -> Vec<u8> {
    // AttributeProto: name 1, f 2, i 3, s 4, ints 8, type 20 (FLOAT 1, INT 2, STRING 3, INTS 7).
    let mut proto = Vec::new();
    message(&mut proto, 1, name.as_bytes());
    let kind = match value {
        Attribute::Float(value) => {
            varint(&mut proto, 2 << 3 | 5);
            proto.extend_from_slice(&value.to_le_bytes());
            1
        }
        Attribute::Int(value) => {
            number(&mut proto, 3, value.cast_unsigned());
            2
        }
        Attribute::Text(text) => {
            message(&mut proto, 4, text.as_bytes());
            3
        }
        Attribute::Ints(values) => {
            values.iter().for_each(|value| number(&mut proto, 8, value.cast_unsigned()));
            7
        }
    };
    number(&mut proto, 20, kind);
    proto
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
