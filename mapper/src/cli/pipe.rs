//! What happens when nobody reads the output any more.

/// Has the process end quietly when it writes into a closed pipe (`mapper inspect FILE | head -1`), by SIGPIPE, as other
/// tools do. Rust ignores that signal, so that `println!` and `eprintln!` get an error instead, and panic.
///
/// The signal's default is brought back for the whole process, in place of an error that every line of output would have to
/// look at; so it holds for whatever prints: ours, clap's, the log's. Connections are not concerned, as the standard library
/// sends on sockets without the signal. Files are written under a temporary name and renamed, so none is cut off.
pub fn end_when_closed() {
    #[cfg(unix)]
    {
        use std::sync::Arc;
        use std::sync::atomic::AtomicBool;

        let always = Arc::new(AtomicBool::new(true));
        // It fails only for signals that can't be handled. Without it a closed pipe is an ugly end, and no more.
        let _ = signal_hook::flag::register_conditional_default(signal_hook::consts::SIGPIPE, always);
    }
}
