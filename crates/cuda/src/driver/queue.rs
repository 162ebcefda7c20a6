//! Queues of a card: copies, kernels, and points to wait for; and the host memory that copies still read or write,
//! which [`Pinned`] shows to nobody before they are done. Any other slice is copied before the call returns.

#![expect(unsafe_code, reason = "a C library is called; each call is argued where it is made")]

use super::DriverError;
use super::handles::{Context, Function, Span, with_kernel};
use super::sys::Handle;
use std::ffi::c_void;

/// Events that keep no time.
const EVENT_WITHOUT_TIMING: u32 = 2;

/// Host memory that cards copy without waiting. It knows the copies that are under way, and each of them waits for the
/// one it depends on, on whatever card.
#[derive(Debug)]
pub struct Pinned {
    context: Context,
    address: usize,
    bytes: usize,
    /// When the last copy into it is done.
    filled: Option<Event>,
    /// When the copies out of it since then are done.
    drained: Vec<Event>,
    /// A copy could not be waited for: it may still be under way.
    stuck: bool,
}

impl Pinned {
    /// Of memory that the driver has just allocated, and that has been written.
    pub(super) fn new(context: Context, address: usize, bytes: usize) -> Self {
        Self { context, address, bytes, filled: None, drained: Vec::new(), stuck: false }
    }

    /// Its bytes, once no copy uses them any more.
    ///
    /// # Errors
    /// The driver's: a copy failed, now or before.
    pub fn bytes(&mut self) -> Result<&mut [u8], DriverError> {
        self.wait()?;
        // SAFETY: allocated with this length, initialised when made, borrowed for as long as `self`; no copy is under
        // way, and a new one needs `&mut self`.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.address as *mut u8, self.bytes) })
    }

    /// Waits for the copies under way. One that cannot be waited for, asked twice, may go on for ever.
    fn wait(&mut self) -> Result<(), DriverError> {
        let mut failed = None;
        for event in self.filled.take().into_iter().chain(self.drained.drain(..)) {
            if let Err(error) = event.synchronize() {
                self.stuck |= event.synchronize().is_err();
                failed.get_or_insert(error);
            }
        }
        match failed {
            Some(error) => Err(error),
            None if self.stuck => Err(DriverError::Stuck { card: self.context.number() }),
            None => Ok(()),
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.wait();
        if self.stuck {
            // Better lost than written into when it belongs to somebody else.
            return;
        }
        // SAFETY: allocated once, freed once, used by no copy.
        let _ = self.context.call(|api| unsafe { api.cuMemFreeHost(self.address as *mut c_void) });
    }
}

/// A point on a stream.
#[derive(Debug)]
pub struct Event {
    context: Context,
    handle: Handle,
}

impl Event {
    pub(super) fn new(context: Context, handle: Handle) -> Self {
        Self { context, handle }
    }

    /// Waits until the stream has come to it.
    ///
    /// # Errors
    /// What went wrong on the card before it.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: an event that is alive.
        self.context.call(|api| unsafe { api.cuEventSynchronize(self.handle) })
    }

    /// Seconds from `start` to this one; both were made by [`Stream::mark_timed`] and have been waited for.
    ///
    /// # Errors
    /// The driver's.
    pub fn seconds_since(&self, start: &Self) -> Result<f64, DriverError> {
        let mut milliseconds = 0f32;
        self.context.call(|api| {
            // SAFETY: a valid out-pointer, two events that are alive.
            unsafe { api.cuEventElapsedTime(&raw mut milliseconds, start.handle, self.handle) }
        })?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once; the driver keeps what is still recorded.
        let _ = self.context.call(|api| unsafe { api.cuEventDestroy_v2(self.handle) });
    }
}

/// A queue of a card.
#[derive(Debug)]
pub struct Stream {
    context: Context,
    handle: Handle,
}

impl Stream {
    pub(super) fn new(context: Context, handle: Handle) -> Self {
        Self { context, handle }
    }

    /// Whose it is.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The driver's name for it.
    pub fn id(&self) -> u64 {
        self.handle as u64
    }

    /// Waits until everything on it is done.
    ///
    /// # Errors
    /// What went wrong on the card.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: a stream that is alive.
        self.context.call(|api| unsafe { api.cuStreamSynchronize(self.handle) })
    }

    /// A point behind everything that is on it now.
    ///
    /// # Errors
    /// The driver's.
    pub fn mark(&self) -> Result<Event, DriverError> {
        self.record(EVENT_WITHOUT_TIMING)
    }

    /// The same, with the time at which it is reached.
    ///
    /// # Errors
    /// The driver's.
    pub fn mark_timed(&self) -> Result<Event, DriverError> {
        self.record(0)
    }

    fn record(&self, flags: u32) -> Result<Event, DriverError> {
        let event = self.context.event(flags)?;
        // SAFETY: event and stream are alive and of one context.
        self.context.call(|api| unsafe { api.cuEventRecord(event.handle, self.handle) })?;
        Ok(event)
    }

    /// What comes after this waits for the event, of whatever card.
    ///
    /// # Errors
    /// The driver's.
    pub fn wait(&self, event: &Event) -> Result<(), DriverError> {
        // SAFETY: both are alive.
        self.context.call(|api| unsafe { api.cuStreamWaitEvent(self.handle, event.handle, 0) })
    }

    /// Copies a slice to the card, behind what is on this queue, and waits for it.
    ///
    /// # Errors
    /// The driver's. Panics if the lengths differ.
    pub fn upload(&self, to: Span, from: &[u8]) -> Result<(), DriverError> {
        assert_eq!(to.bytes, from.len() as u64);
        if from.is_empty() {
            return Ok(());
        }
        self.synchronize()?;
        self.context.call(|api| {
            // SAFETY: the slice is as long as the copy, and the driver is done with it when the call returns: it has
            // copied it to memory of its own, if not to the card.
            unsafe { api.cuMemcpyHtoD_v2(to.address, from.as_ptr().cast(), from.len())? };
            // That last way is on the default queue, for which this one does not wait by itself.
            // SAFETY: the default queue of the current context.
            unsafe { api.cuStreamSynchronize(0) }
        })
    }

    /// Copies from the card into a slice, behind what is on this queue, and waits for it.
    ///
    /// # Errors
    /// The driver's. Panics if the lengths differ.
    pub fn download(&self, from: Span, to: &mut [u8]) -> Result<(), DriverError> {
        assert_eq!(from.bytes, to.len() as u64);
        if to.is_empty() {
            return Ok(());
        }
        self.synchronize()?;
        // SAFETY: the slice is as long as the copy, which is done when the call returns.
        self.context
            .call(|api| unsafe { api.cuMemcpyDtoH_v2(to.as_mut_ptr().cast(), from.address, to.len()) })
    }

    /// Puts a copy from pinned memory on the queue, behind the copy that fills it, if one is under way.
    ///
    /// # Errors
    /// The driver's. Panics if the span is longer.
    pub fn upload_pinned(&self, to: Span, from: &mut Pinned) -> Result<(), DriverError> {
        assert!(to.bytes <= from.bytes as u64);
        if let Some(filled) = &from.filled {
            self.wait(filled)?;
        }
        // SAFETY: so many bytes are there, and they are shown to nobody before `drained` is reached.
        self.context.call(|api| unsafe {
            api.cuMemcpyHtoDAsync_v2(
                to.address,
                from.address as *const c_void,
                to.bytes as usize,
                self.handle,
            )
        })?;
        from.drained.push(self.mark_copy(&mut from.stuck)?);
        Ok(())
    }

    /// Puts a copy into pinned memory on the queue, behind the copy that empties it, if one is under way.
    ///
    /// # Errors
    /// The driver's. Panics if the span is longer.
    pub fn download_pinned(&self, from: Span, to: &mut Pinned) -> Result<(), DriverError> {
        assert!(from.bytes <= to.bytes as u64);
        for drained in to.drained.drain(..) {
            self.wait(&drained)?;
        }
        // SAFETY: so many bytes are there, and they are shown to nobody before `filled` is reached.
        self.context.call(|api| unsafe {
            api.cuMemcpyDtoHAsync_v2(
                to.address as *mut c_void,
                from.address,
                from.bytes as usize,
                self.handle,
            )
        })?;
        to.filled = Some(self.mark_copy(&mut to.stuck)?);
        Ok(())
    }

    /// The point behind a copy that uses pinned memory. If there is none, the copy is waited for at once; if that fails
    /// too, the memory is never used again.
    fn mark_copy(&self, stuck: &mut bool) -> Result<Event, DriverError> {
        self.mark().inspect_err(|_| *stuck |= self.synchronize().is_err())
    }

    /// Puts a copy to another card, or from one, on the queue.
    ///
    /// # Errors
    /// The driver's. Panics if the lengths differ.
    pub fn copy_between(
        &self,
        (to, to_card): (Span, &Context),
        (from, from_card): (Span, &Context),
    ) -> Result<(), DriverError> {
        assert_eq!(to.bytes, from.bytes);
        let (to_handle, from_handle) = (to_card.0.handle, from_card.0.handle);
        // SAFETY: no host memory is involved; both contexts are alive.
        self.context.call(|api| unsafe {
            api.cuMemcpyPeerAsync(
                to.address,
                to_handle,
                from.address,
                from_handle,
                from.bytes as usize,
                self.handle,
            )
        })
    }

    /// Puts zeros into a part of the card's memory.
    ///
    /// # Errors
    /// The driver's.
    pub fn clear(&self, span: Span) -> Result<(), DriverError> {
        if span.bytes == 0 {
            return Ok(());
        }
        // SAFETY: no host memory is involved.
        self.context
            .call(|api| unsafe { api.cuMemsetD8Async(span.address, 0, span.bytes as usize, self.handle) })
    }

    /// Puts a kernel on the queue.
    ///
    /// # Errors
    /// The driver's, of this launch or of what was on the queue before.
    pub fn launch(&self, function: &Function, grid: Grid, args: &[Arg<'_>]) -> Result<(), DriverError> {
        let mut pointers: Vec<*mut c_void> = args
            .iter()
            .map(|arg| match arg {
                Arg::Word(word) => std::ptr::from_ref(word).cast_mut().cast(),
                Arg::Bytes(bytes) => bytes.as_ptr().cast_mut().cast(),
            })
            .collect();
        // SAFETY: the driver copies each argument before it returns, from a pointer to at least as many bytes.
        // Whether these are the arguments the kernel has, no driver can say: `abi.rs` and its tests do.
        self.context
            .call(|api| unsafe {
                api.cuLaunchKernel(
                    function.handle,
                    grid.blocks.0,
                    grid.blocks.1,
                    grid.blocks.2,
                    grid.threads,
                    1,
                    1,
                    grid.shared,
                    self.handle,
                    pointers.as_mut_ptr(),
                    std::ptr::null_mut(),
                )
            })
            .map_err(|error| with_kernel(error, &function.name))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once; the driver finishes what is on it.
        let _ = self.context.call(|api| unsafe { api.cuStreamDestroy_v2(self.handle) });
    }
}

/// How a kernel is spread over the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in three directions.
    pub blocks: (u32, u32, u32),
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory of a block, beyond what the kernel declares.
    pub shared: u32,
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg<'a> {
    /// A number or an address, its bytes from the lowest on.
    Word(u64),
    /// A struct.
    Bytes(&'a [u8]),
}

const _: () = assert!(cfg!(target_endian = "little"), "an argument begins at its lowest byte");

impl From<Span> for Arg<'_> {
    fn from(span: Span) -> Self {
        Self::Word(span.address)
    }
}

impl From<u64> for Arg<'_> {
    fn from(value: u64) -> Self {
        Self::Word(value)
    }
}

impl From<u32> for Arg<'_> {
    fn from(value: u32) -> Self {
        Self::Word(u64::from(value))
    }
}

impl From<i32> for Arg<'_> {
    fn from(value: i32) -> Self {
        Self::Word(u64::from(value as u32))
    }
}

impl From<f32> for Arg<'_> {
    fn from(value: f32) -> Self {
        Self::Word(u64::from(value.to_bits()))
    }
}

impl From<f64> for Arg<'_> {
    fn from(value: f64) -> Self {
        Self::Word(value.to_bits())
    }
}
