//! ONNX Runtime sessions on the loader thread, shadow and hot swap.
