//! Who comes first when the processors are busy: what accepts and answers, before what works in the background.

/// The niceness of threads that work in the background: they get a tenth of what the others get, never nothing.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lowers the priority of the current thread.
#[cfg(target_os = "linux")]
pub fn lower() {
    // On Linux this is the thread's alone (setpriority(2), "C library/kernel differences").
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        log::debug!("a thread keeps its priority: {error}");
    }
}

/// Elsewhere priorities are the process's: nothing is changed.
#[cfg(not(target_os = "linux"))]
pub fn lower() {}
