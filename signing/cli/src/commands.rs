//! One file per group of commands.

pub(crate) mod approval;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod key;
pub(crate) mod offline;
pub(crate) mod oms;
pub(crate) mod online;
pub(crate) mod publish;
pub(crate) mod request;
pub(crate) mod rollout;
pub(crate) mod root;
pub(crate) mod sign;
pub(crate) mod status;
pub(crate) mod targets;
pub(crate) mod vehicle;
pub(crate) mod verify;
