//! What a running pipeline looks like from outside.
