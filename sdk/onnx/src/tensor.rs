//! Element types and shapes of a model's inputs and outputs.

use std::fmt;

use half::{bf16, f16};
use ort::sys::ONNXTensorElementDataType as OrtElement;
use ort::value::{Outlet, TensorElementType, ValueType};

use crate::error::OpenError;

/// The element type of a tensor that can be bound to a fixed buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// IEEE 754 binary64.
    F64,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// One byte, 0 or 1.
    Bool,
}

impl ElementType {
    /// The size of one element in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::U16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// The name in the notation of the model contract: `f32`, `u8`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
        }
    }

    fn from_ort(element: TensorElementType) -> Option<Self> {
        Some(match element {
            TensorElementType::Float32 => Self::F32,
            TensorElementType::Float16 => Self::F16,
            TensorElementType::Bfloat16 => Self::Bf16,
            TensorElementType::Float64 => Self::F64,
            TensorElementType::Uint8 => Self::U8,
            TensorElementType::Int8 => Self::I8,
            TensorElementType::Uint16 => Self::U16,
            TensorElementType::Int16 => Self::I16,
            TensorElementType::Int32 => Self::I32,
            TensorElementType::Int64 => Self::I64,
            TensorElementType::Bool => Self::Bool,
            _ => return None,
        })
    }

    pub(crate) const fn to_ort(self) -> OrtElement {
        match self {
            Self::F32 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
            Self::F16 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
            Self::Bf16 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
            Self::F64 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
            Self::U8 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
            Self::I8 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
            Self::U16 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
            Self::I16 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
            Self::I32 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
            Self::I64 => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
            Self::Bool => OrtElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type of which a tensor's buffer can be seen as a slice.
///
/// Sealed: a typed view is sound only for types of which every bit pattern is a value and whose size and
/// alignment are those of the tensor's element. (That is why there is no view as `bool`.)
pub trait Element: Copy + sealed::Sealed + 'static {
    /// The tensor's element type that this Rust type can view.
    const TYPE: ElementType;
}

macro_rules! elements {
    ($($rust:ty => $element:ident),* $(,)?) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const TYPE: ElementType = ElementType::$element;
        }
        const _: () = assert!(size_of::<$rust>() == ElementType::$element.bytes());
    )*};
}
elements!(f32 => F32, f16 => F16, bf16 => Bf16, f64 => F64, u8 => U8, i8 => I8, u16 => U16, i16 => I16, i32 => I32, i64 => I64);

/// One input or output of a model: its name, element type and fixed shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the model's graph.
    pub name: String,
    /// The type of its elements.
    pub element_type: ElementType,
    /// Its dimensions, all known; row-major, the last one is contiguous. Empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// The largest tensor that is bound, in bytes. A camera frame of 8 megapixels in f32 RGB is 96 MiB; the limit
    /// keeps an absurd shape in a model from becoming an allocation that kills the vehicle's process.
    pub const MAX_BYTES: usize = 1 << 30;

    /// The number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The size of the tensor's buffer in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.elements() * self.element_type.bytes()
    }

    pub(crate) fn from_outlet(outlet: &Outlet) -> Result<Self, OpenError> {
        let name = outlet.name();
        let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
            return Err(unsupported(name, outlet.dtype()));
        };
        let element_type = ElementType::from_ort(*ty).ok_or_else(|| unsupported(name, outlet.dtype()))?;
        let fixed = |(position, &dimension): (usize, &i64)| match (position, usize::try_from(dimension)) {
            (_, Ok(known)) => Ok(known),
            (0, Err(_)) => Ok(1),
            (position, Err(_)) => Err(OpenError::DynamicDimension {
                tensor: name.to_owned(),
                dimension: match dimension_symbols.get(position) {
                    Some(symbol) if !symbol.is_empty() => symbol.clone(),
                    _ => "?".to_owned(),
                },
                position,
            }),
        };
        let shape = shape.iter().enumerate().map(fixed).collect::<Result<Vec<_>, _>>()?;
        let info = Self { name: name.to_owned(), element_type, shape };
        info.checked_bytes()
            .filter(|bytes| (1..=Self::MAX_BYTES).contains(bytes))
            .ok_or_else(|| OpenError::ShapeOutOfRange { tensor: info.name.clone(), shape: info.shape.clone() })?;
        Ok(info)
    }

    fn checked_bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.element_type.bytes(), |bytes, &dimension| bytes.checked_mul(dimension))
    }
}

fn unsupported(tensor: &str, found: &ValueType) -> OpenError {
    OpenError::UnsupportedType { tensor: tensor.to_owned(), found: found.to_string() }
}
