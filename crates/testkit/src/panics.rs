//! What panicked in a run that should not have.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

use crate::convert::PANIC;

static HOOK: Once = Once::new();

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From now on panics of a run are kept for [`seen`], and those of its own handlers are not told.
pub(crate) fn watch() {
    HOOK.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some(PANIC) {
                SEEN.with_borrow_mut(|seen| seen.push(info.to_string()));
                told(info);
            }
        }));
    });
}

/// The panics of this thread since the last time.
pub(crate) fn seen() -> Vec<String> {
    SEEN.take()
}
