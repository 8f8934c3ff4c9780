//! The rule's behaviour, look by look, and its laws for any looks.

mod behaviour;
mod laws;
