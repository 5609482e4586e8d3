//! Bytes from the server, with resume.
