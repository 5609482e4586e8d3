//! Points in time, given by the caller.
