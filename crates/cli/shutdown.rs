//! Ctrl-C and SIGTERM: the first asks all work to end in order, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell calls a process that a signal ended: 128 + SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Returns a token that is cancelled by the first signal.
///
/// # Errors
/// When the system gives no signals.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        let mut either = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        either().await;
        asked.cancel();
        either().await;
        eprintln!("alluvium: ended at once; what was acknowledged is kept");
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(stop)
}
