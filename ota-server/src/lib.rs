//! ota-server
