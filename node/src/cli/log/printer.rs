//! Prints on a thread of its own: whoever reads may pause for as long as they like, and the link to the node lives on.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

/// Pages that wait to be printed; more wait at the node.
const PAGES: usize = 16;
/// A page is handed over once it has so many bytes.
pub const PAGE_BYTES: usize = 64 << 10;

/// Entries to be printed, one after the other.
#[derive(Default)]
pub struct Page {
    /// What is printed.
    pub bytes: Vec<u8>,
    /// For each entry, where it ends in the bytes and which position follows it.
    pub ends: Vec<(usize, u64)>,
}

/// The thread, as others see it.
pub struct Printer {
    pages: mpsc::Sender<Page>,
    next: Arc<AtomicU64>,
    ended: oneshot::Receiver<std::io::Result<()>>,
}

impl Printer {
    /// Prints to `out`; `next` is the first position.
    pub fn start(mut out: impl Write + Send + 'static, next: u64) -> Self {
        let (pages, mut waiting) = mpsc::channel::<Page>(PAGES);
        let next = Arc::new(AtomicU64::new(next));
        let (end, ended) = oneshot::channel();
        let printed = next.clone();
        // Not joined: at the end of the process it may wait for a reader that never reads again.
        std::thread::spawn(move || {
            let result = loop {
                let Some(page) = waiting.blocking_recv() else { break Ok(()) };
                if let Err(error) = print(&mut out, &page, &printed) {
                    break Err(error);
                }
            };
            drop(waiting);
            let _ = end.send(result);
        });
        Self { pages, next, ended }
    }

    /// Hands a page over; waits while the reader is far behind. False if there is no reader any more: [`Self::finish`] says why.
    pub async fn print(&self, page: Page) -> bool {
        self.pages.send(page).await.is_ok()
    }

    /// The position after the last entry that was printed whole.
    pub fn next_position(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Waits until everything is printed.
    ///
    /// # Errors
    /// What the system said.
    pub async fn finish(self) -> std::io::Result<()> {
        drop(self.pages);
        self.ended.await.unwrap_or(Ok(()))
    }
}

fn print(out: &mut impl Write, page: &Page, next: &AtomicU64) -> std::io::Result<()> {
    let (mut done, mut entry) = (0, 0);
    while done < page.bytes.len() {
        match out.write(&page.bytes[done..]) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(written) => done = done.saturating_add(written),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        while let Some((end, position)) = page.ends.get(entry).filter(|(end, _)| *end <= done) {
            let _ = end;
            next.store(*position, Ordering::Release);
            entry = entry.saturating_add(1);
        }
    }
    if let Some((_, position)) = page.ends.last() {
        next.store(*position, Ordering::Release);
    }
    out.flush()
}
