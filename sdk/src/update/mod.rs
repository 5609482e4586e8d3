//! The life of an update as a state machine without IO.
