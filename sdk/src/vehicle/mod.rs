//! Joins update, fetch, store and engine into one vehicle.
