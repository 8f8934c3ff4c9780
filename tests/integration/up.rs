//! The first five minutes: the whole pipeline in one process.
