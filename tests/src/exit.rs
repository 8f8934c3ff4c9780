//! Exit codes of the program, as in sysexits.

/// The command line is wrong.
pub const USAGE: i32 = 64;
/// The data are.
pub const DATA: i32 = 65;
/// Something that is needed is not there.
pub const UNAVAILABLE: i32 = 69;
/// The pipeline file is wrong.
pub const CONFIG: i32 = 78;
