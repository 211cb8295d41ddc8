//! Closed output pipes.

/// Lets SIGPIPE end the process quietly when it writes to a closed pipe (`mapper inspect FILE | head -1`), as other
/// tools do. Rust ignores that signal by default; `println!` and `eprintln!` then get an error and panic.
///
/// The signal's default action is restored for the whole process, so it covers everything that prints: this program,
/// clap and the log. Connections are not affected, since the standard library sends on sockets without the signal. No
/// file is cut short, since files are written under a temporary name and renamed.
pub fn end_when_closed() {
    #[cfg(unix)]
    {
        use std::sync::Arc;
        use std::sync::atomic::AtomicBool;

        let always = Arc::new(AtomicBool::new(true));
        // It fails only for signals that can't be handled. Without it, a closed pipe ends in a panic message.
        let _ = signal_hook::flag::register_conditional_default(signal_hook::consts::SIGPIPE, always);
    }
}
