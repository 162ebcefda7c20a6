//! The functions of the CUDA driver API this program calls, found in the driver's library at run time, each returning
//! the driver's answer as an error that names the call.
//!
//! Types and names are those of `cuda.h` (CUDA 12);
//! handles are opaque pointers, carried as `usize` so that they can be kept and compared.

#![expect(unsafe_code, reason = "a C library is called; each call is argued where it is made")]

use super::error::DriverError;
use libloading::Library;
pub(super) use libloading::Symbol;
use std::ffi::{CStr, c_char, c_void};

/// A context, stream, event, module or function: an opaque pointer of the driver's.
pub(super) type Handle = usize;
/// An address in a card's memory.
pub(super) type Address = u64;

/// What gives a code's name, or the driver's words for it.
type Words = unsafe extern "system" fn(i32, *mut *const c_char) -> i32;

macro_rules! functions {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        /// The loaded library and its functions.
        #[expect(non_snake_case, reason = "the names of cuda.h")]
        pub(super) struct Api {
            $($name: unsafe extern "system" fn($($type),*) -> i32,)*
            cuGetErrorName: Words,
            cuGetErrorString: Words,
            path: String,
            /// Keeps the code of the functions mapped; never closed before they are gone.
            library: Library,
        }

        impl Api {
            /// Finds every function in a library.
            fn find(library: Library, path: &str) -> Result<Self, DriverError> {
                let missing = |function| DriverError::Function { library: path.to_owned(), function };
                // SAFETY: the types are those of cuda.h; a library that calls itself the driver and exports other
                // functions under these names cannot be told from the driver by anybody.
                unsafe {
                    Ok(Self {
                        $($name: *library.get(concat!(stringify!($name), "\0").as_bytes())
                            .map_err(|_| missing(stringify!($name)))?,)*
                        cuGetErrorName: *library.get(b"cuGetErrorName\0").map_err(|_| missing("cuGetErrorName"))?,
                        cuGetErrorString: *library
                            .get(b"cuGetErrorString\0")
                            .map_err(|_| missing("cuGetErrorString"))?,
                        path: path.to_owned(),
                        library,
                    })
                }
            }

            $(
                /// The function of this name.
                ///
                /// # Safety
                /// What `cuda.h` asks of its arguments.
                #[allow(non_snake_case, reason = "the names of cuda.h")]
                pub(super) unsafe fn $name(&self, $($arg: $type),*) -> Result<(), DriverError> {
                    // SAFETY: the caller's promise.
                    let code = unsafe { (self.$name)($($arg),*) };
                    self.answer(stringify!($name), code)
                }
            )*
        }
    };
}

functions! {
    cuInit(flags: u32);
    cuDriverGetVersion(version: *mut i32);
    cuDeviceGetCount(count: *mut i32);
    cuDeviceGet(device: *mut i32, ordinal: i32);
    cuDeviceGetName(name: *mut c_char, len: i32, device: i32);
    cuDeviceGetAttribute(value: *mut i32, attribute: i32, device: i32);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: i32);
    cuDeviceCanAccessPeer(can: *mut i32, device: i32, peer: i32);
    cuDevicePrimaryCtxRetain(context: *mut Handle, device: i32);
    cuDevicePrimaryCtxRelease_v2(device: i32);
    cuCtxSetCurrent(context: Handle);
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    cuMemAlloc_v2(address: *mut Address, bytes: usize);
    cuMemFree_v2(address: Address);
    cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: u32);
    cuMemFreeHost(pointer: *mut c_void);
    cuMemcpyHtoD_v2(to: Address, from: *const c_void, bytes: usize);
    cuMemcpyDtoH_v2(to: *mut c_void, from: Address, bytes: usize);
    cuMemcpyHtoDAsync_v2(to: Address, from: *const c_void, bytes: usize, stream: Handle);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: Address, bytes: usize, stream: Handle);
    cuMemcpyPeerAsync(to: Address, to_context: Handle, from: Address, from_context: Handle, bytes: usize,
        stream: Handle);
    cuMemsetD8Async(to: Address, value: u8, count: usize, stream: Handle);
    cuStreamCreate(stream: *mut Handle, flags: u32);
    cuStreamDestroy_v2(stream: Handle);
    cuStreamSynchronize(stream: Handle);
    cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32);
    cuEventCreate(event: *mut Handle, flags: u32);
    cuEventDestroy_v2(event: Handle);
    cuEventRecord(event: Handle, stream: Handle);
    cuEventSynchronize(event: Handle);
    cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle);
    cuModuleLoadDataEx(module: *mut Handle, image: *const c_void, count: u32, options: *mut i32,
        values: *mut *mut c_void);
    cuModuleUnload(module: Handle);
    cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char);
    cuFuncSetAttribute(function: Handle, attribute: i32, value: i32);
    cuLaunchKernel(function: Handle, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32,
        block_z: u32, shared_bytes: u32, stream: Handle, parameters: *mut *mut c_void, extra: *mut *mut c_void);
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api({})", self.path)
    }
}

impl Api {
    /// Loads the first of these libraries that is there.
    pub(super) fn load(paths: &[String]) -> Result<Self, DriverError> {
        for path in paths {
            // SAFETY: loading runs the library's initialisers. It is the machine's graphics driver, or a library
            // whose path the user gave; both are code this process is meant to run.
            if let Ok(library) = unsafe { Library::new(path) } {
                return Self::find(library, path);
            }
        }
        Err(DriverError::NotHere { tried: paths.to_vec() })
    }

    /// Lets the current context reach the memory of another: looked for when it is asked, which most machines never
    /// are.
    ///
    /// # Safety
    /// The handle of a context that is alive.
    pub(super) unsafe fn enable_peer_access(&self, peer: Handle) -> Result<(), DriverError> {
        let function = "cuCtxEnablePeerAccess";
        // SAFETY: the type is that of cuda.h.
        let found: Option<Symbol<'_, unsafe extern "system" fn(Handle, u32) -> i32>> =
            unsafe { self.symbol(function) };
        let enable = found.ok_or(DriverError::Function { library: self.path.clone(), function })?;
        // SAFETY: the caller's promise.
        self.answer(function, unsafe { enable(peer, 0) })
    }

    /// A function or variable of another name.
    ///
    /// # Safety
    /// It has this type.
    pub(super) unsafe fn symbol<T>(&self, name: &str) -> Option<Symbol<'_, T>> {
        // SAFETY: the caller's promise.
        unsafe { self.library.get(name.as_bytes()) }.ok()
    }

    /// Where it was found.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn answer(&self, call: &'static str, code: i32) -> Result<(), DriverError> {
        if code == 0 {
            return Ok(());
        }
        let words = |ask: Words| {
            let mut text = std::ptr::null();
            // SAFETY: the driver sets the pointer to a string of its own that lives as long as it, or to null.
            let known = unsafe { ask(code, &raw mut text) } == 0 && !text.is_null();
            // SAFETY: as above; a C string ends in a zero.
            known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        Err(DriverError::Call {
            call,
            code,
            name: words(self.cuGetErrorName).unwrap_or_else(|| "unknown error".to_owned()),
            text: words(self.cuGetErrorString).unwrap_or_else(|| "the driver has no words for it".to_owned()),
        })
    }
}
