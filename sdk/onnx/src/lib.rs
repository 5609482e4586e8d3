//! sdk/onnx
