//! What keeps Rust's rules on its side of the border to C.

use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs `f`. If it fails or panics, the reason is written and `failed` returned.
pub fn guard<T>(error: *mut c_char, capacity: usize, failed: T, f: impl FnOnce() -> Result<T, Failure>) -> T {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => value,
        Ok(Err(reason)) => {
            write(error, capacity, &reason.to_string());
            failed
        }
        Err(panic) => {
            write(error, capacity, &format!("the Zenoh engine panicked: {}", words(&panic)));
            failed
        }
    }
}

/// Runs `f`, where nobody could be told of a failure.
pub fn quiet(f: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(f));
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("for a reason it does not tell")
}

/// Writes as much of `text` as fits, and a zero byte.
pub fn write(to: *mut c_char, capacity: usize, text: &str) {
    if to.is_null() || capacity == 0 {
        return;
    }
    let length = text.len().min(capacity - 1);
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), length);
        *to.add(length) = 0;
    }
}

/// The caller's bytes; none for a null pointer.
///
/// # Safety
/// `start` must be null or valid for `length` bytes as long as the result is used.
pub unsafe fn bytes<'a>(start: *const u8, length: usize) -> &'a [u8] {
    if start.is_null() || length == 0 {
        return &[];
    }
    unsafe { std::slice::from_raw_parts(start, length) }
}

pub fn text(bytes: &[u8]) -> Result<&str, Failure> {
    Ok(std::str::from_utf8(bytes)?)
}
