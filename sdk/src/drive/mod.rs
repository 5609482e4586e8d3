//! The driving step: frames and ego state in, trajectory and control out.
