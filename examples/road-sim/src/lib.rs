//! examples/road-sim
