//! What the driver hands out, as objects that own it: contexts, memory, modules. Each call makes the card's context
//! current first, so that one thread can serve several cards.

#![expect(unsafe_code, reason = "a C library is called; each call is argued where it is made")]

use super::queue::{Event, Pinned, Stream};
use super::sys::{Api, Handle};
use super::{Driver, DriverError};
use std::ffi::{CString, c_void};
use std::sync::Arc;

/// Streams that do not wait for the default one, host memory all cards may copy.
const STREAM_NON_BLOCKING: u32 = 1;
const HOST_PORTABLE: u32 = 1;
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const MAX_DYNAMIC_SHARED: i32 = 8;
/// Bytes of shared memory a block has without asking.
const SHARED_UNASKED: u32 = 48 << 10;
/// `CU_JIT_ERROR_LOG_BUFFER` and its size.
const JIT_ERROR_LOG: [i32; 2] = [5, 6];
const JIT_LOG_BYTES: usize = 4096;
/// `CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED`: as good as success.
const PEER_ALREADY: i32 = 704;

impl Driver {
    pub(super) fn initialise(&self) -> Result<(), DriverError> {
        // SAFETY: no pointer.
        unsafe { self.api.cuInit(0) }
    }

    pub(super) fn version_number(&self) -> Result<i32, DriverError> {
        let mut version = 0;
        // SAFETY: a valid out-pointer, as in the calls below.
        unsafe { self.api.cuDriverGetVersion(&raw mut version)? };
        Ok(version)
    }

    pub(super) fn count(&self) -> Result<u32, DriverError> {
        let mut count = 0;
        // SAFETY: a valid out-pointer.
        unsafe { self.api.cuDeviceGetCount(&raw mut count)? };
        Ok(count.max(0) as u32)
    }

    pub(super) fn device(&self, number: u32) -> Result<i32, DriverError> {
        let mut device = 0;
        // SAFETY: a valid out-pointer.
        unsafe { self.api.cuDeviceGet(&raw mut device, number as i32)? };
        Ok(device)
    }

    pub(super) fn device_name(&self, device: i32) -> Result<String, DriverError> {
        let mut name = [0u8; 256];
        // SAFETY: the driver writes at most the length it is given, and a zero at the end.
        unsafe { self.api.cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, device)? };
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        Ok(String::from_utf8_lossy(&name[..end]).into_owned())
    }

    pub(super) fn attribute(&self, device: i32, which: i32) -> Result<i32, DriverError> {
        let mut value = 0;
        // SAFETY: a valid out-pointer.
        unsafe { self.api.cuDeviceGetAttribute(&raw mut value, which, device)? };
        Ok(value)
    }

    pub(super) fn device_memory(&self, device: i32) -> Result<u64, DriverError> {
        let mut bytes = 0;
        // SAFETY: a valid out-pointer.
        unsafe { self.api.cuDeviceTotalMem_v2(&raw mut bytes, device)? };
        Ok(bytes as u64)
    }

    /// The context of a card.
    ///
    /// # Errors
    /// There is no such card; the driver's.
    pub fn context(&self, number: u32) -> Result<Context, DriverError> {
        let retain = || {
            let device = self.device(number)?;
            let mut handle = 0;
            // SAFETY: a valid out-pointer.
            unsafe { self.api.cuDevicePrimaryCtxRetain(&raw mut handle, device)? };
            Ok(Context(Arc::new(Inner { api: Arc::clone(&self.api), handle, device, number })))
        };
        retain().map_err(|error: DriverError| error.of_card(number))
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    api: Arc<Api>,
    pub(super) handle: Handle,
    device: i32,
    number: u32,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: retained once, released once; everything made in it holds an `Arc` of this and is gone. An error
        // leaves nothing to be done.
        let _ = unsafe { self.api.cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// What a process has on a card. Whatever is made in it keeps it alive.
#[derive(Debug, Clone)]
pub struct Context(pub(super) Arc<Inner>);

impl Context {
    /// The card's number among those the process sees.
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// Calls the driver with this context current; an error says which card it was.
    pub(super) fn call<T>(
        &self,
        calls: impl FnOnce(&Api) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let api = &*self.0.api;
        // SAFETY: the handle is that of a context retained and not yet released.
        let current = unsafe { api.cuCtxSetCurrent(self.0.handle) };
        current.and_then(|()| calls(api)).map_err(|error| error.of_card(self.0.number))
    }

    /// Bytes free on the card now, and all it has.
    ///
    /// # Errors
    /// The driver's.
    pub fn memory(&self) -> Result<(u64, u64), DriverError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: valid out-pointers.
        self.call(|api| unsafe { api.cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        Ok((free as u64, total as u64))
    }

    /// So many bytes of the card's memory, with nothing in particular in them.
    ///
    /// # Errors
    /// The driver's.
    pub fn allocate(&self, bytes: u64) -> Result<DeviceMemory, DriverError> {
        let mut address = 0;
        // SAFETY: a valid out-pointer.
        self.call(|api| unsafe { api.cuMemAlloc_v2(&raw mut address, bytes as usize) })?;
        Ok(DeviceMemory { context: self.clone(), span: Span { address, bytes } })
    }

    /// So many bytes of host memory, zero, that any card copies at full speed.
    ///
    /// # Errors
    /// The driver's.
    pub fn pinned(&self, bytes: usize) -> Result<Pinned, DriverError> {
        let mut pointer: *mut c_void = std::ptr::null_mut();
        // SAFETY: a valid out-pointer.
        self.call(|api| unsafe { api.cuMemHostAlloc(&raw mut pointer, bytes.max(1), HOST_PORTABLE) })?;
        // SAFETY: so many bytes were just allocated there for us alone.
        unsafe { std::ptr::write_bytes(pointer.cast::<u8>(), 0, bytes) };
        Ok(Pinned::new(self.clone(), pointer as usize, bytes))
    }

    /// A queue that waits for no other.
    ///
    /// # Errors
    /// The driver's.
    pub fn stream(&self) -> Result<Stream, DriverError> {
        let mut handle = 0;
        // SAFETY: a valid out-pointer.
        self.call(|api| unsafe { api.cuStreamCreate(&raw mut handle, STREAM_NON_BLOCKING) })?;
        Ok(Stream::new(self.clone(), handle))
    }

    pub(super) fn event(&self, flags: u32) -> Result<Event, DriverError> {
        let mut handle = 0;
        // SAFETY: a valid out-pointer.
        self.call(|api| unsafe { api.cuEventCreate(&raw mut handle, flags) })?;
        Ok(Event::new(self.clone(), handle))
    }

    /// Kernels from PTX text or a cubin.
    ///
    /// # Errors
    /// The driver does not take the image; its compiler's own words are in the message.
    pub fn module(&self, image: &[u8]) -> Result<Module, DriverError> {
        // PTX is read to its terminating zero.
        let image = [image, &[0]].concat();
        let mut log = vec![0u8; JIT_LOG_BYTES];
        let (mut options, mut handle) = (JIT_ERROR_LOG, 0);
        let mut values = [log.as_mut_ptr().cast::<c_void>(), JIT_LOG_BYTES as *mut c_void];
        let loaded = self.call(|api| {
            // SAFETY: image, log and options outlive the call, which alone uses them; two options, two values.
            unsafe {
                api.cuModuleLoadDataEx(
                    &raw mut handle,
                    image.as_ptr().cast(),
                    options.len() as u32,
                    options.as_mut_ptr(),
                    values.as_mut_ptr(),
                )
            }
        });
        let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
        loaded.map_err(|error| with_log(error, &String::from_utf8_lossy(&log[..end])))?;
        Ok(Module { context: self.clone(), handle })
    }

    /// Whether the cards copy to each other without the host.
    ///
    /// # Errors
    /// The driver's.
    pub fn reaches(&self, other: &Self) -> Result<bool, DriverError> {
        let mut can = 0;
        // SAFETY: a valid out-pointer.
        self.call(|api| unsafe { api.cuDeviceCanAccessPeer(&raw mut can, self.0.device, other.0.device) })?;
        Ok(can != 0)
    }

    /// Lets this card reach the other's memory.
    ///
    /// # Errors
    /// The driver's; that it can already is none.
    pub fn reach(&self, other: &Self) -> Result<(), DriverError> {
        // SAFETY: the handle of a context that is alive.
        match self.call(|api| unsafe { api.enable_peer_access(other.0.handle) }) {
            Err(error) if error.code() == Some(PEER_ALREADY) => Ok(()),
            answer => answer,
        }
    }
}

/// The compiler's words beside the driver's.
fn with_log(error: DriverError, log: &str) -> DriverError {
    match error {
        DriverError::Call { call, code, name, text } if !log.trim().is_empty() => {
            DriverError::Call { call, code, name, text: format!("{text}: {}", log.trim()) }
        }
        DriverError::Card { card, error } => {
            DriverError::Card { card, error: Box::new(with_log(*error, log)) }
        }
        other => other,
    }
}

/// The kernel beside the driver's words.
pub(super) fn with_kernel(error: DriverError, kernel: &str) -> DriverError {
    with_log(error, &format!("kernel `{kernel}`"))
}

/// A part of a card's memory: plain numbers, so that parts may be named before and after each other's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub address: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl Span {
    /// A part of it.
    ///
    /// Panics if it reaches beyond.
    #[must_use]
    pub fn part(self, offset: u64, bytes: u64) -> Self {
        assert!(
            offset.checked_add(bytes).is_some_and(|end| end <= self.bytes),
            "{bytes} bytes at {offset} of {}",
            self.bytes
        );
        Self { address: self.address + offset, bytes }
    }
}

/// Memory of a card, given back when this goes.
#[derive(Debug)]
pub struct DeviceMemory {
    context: Context,
    span: Span,
}

impl DeviceMemory {
    /// All of it.
    pub fn span(&self) -> Span {
        self.span
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: allocated once, freed once; the driver waits for what still uses it. If the card is gone, so is the
        // memory.
        let _ = self.context.call(|api| unsafe { api.cuMemFree_v2(self.span.address) });
    }
}

/// Kernels on a card.
#[derive(Debug)]
pub struct Module {
    context: Context,
    handle: Handle,
}

impl Module {
    /// The kernel of this name.
    ///
    /// # Errors
    /// There is none; the card does not give a block as much shared memory.
    pub fn function(self: &Arc<Self>, name: &str, shared: u32) -> Result<Function, DriverError> {
        let c_name = CString::new(name).expect("a kernel's name has no zero in it");
        let mut handle = 0;
        // SAFETY: a valid out-pointer, a string that outlives the call, a module that is alive.
        self.context
            .call(|api| unsafe { api.cuModuleGetFunction(&raw mut handle, self.handle, c_name.as_ptr()) })
            .map_err(|error| with_kernel(error, name))?;
        if shared > SHARED_UNASKED {
            // SAFETY: a function of a module that is alive.
            self.context
                .call(|api| unsafe { api.cuFuncSetAttribute(handle, MAX_DYNAMIC_SHARED, shared as i32) })
                .map_err(|error| with_kernel(error, name))?;
        }
        Ok(Function { _module: Arc::clone(self), handle, name: name.to_owned() })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once; its functions hold an `Arc` of it and are gone.
        let _ = self.context.call(|api| unsafe { api.cuModuleUnload(self.handle) });
    }
}

/// A kernel.
#[derive(Debug)]
pub struct Function {
    _module: Arc<Module>,
    pub(super) handle: Handle,
    pub(super) name: String,
}
