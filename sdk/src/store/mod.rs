//! Two slots and two state records that survive a power cut at any instruction.
