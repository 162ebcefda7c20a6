//! Pictures for few-shot learning: folders or lists of files in, one array of pixels out.
//!
//! ```text
//!   class folders, or lists ──Index──▶ splits of classes of files ──prepare──▶ pixels [n,side,side,channels], u8
//!                                                                     ▲ decode, resize, crop, by all threads
//!   a cache file of header and pixels ──ImageSet::open──▶ memory-mapped, an image is a slice
//! ```
//!
//! [`Index::of_folders`] takes `root/{train,val,test}/class/*` or `root/class/*`, [`Index::of_lists`] the lists of
//! mini-ImageNet (`filename,label`). [`prepare()`] hands out the bytes of a cache file, whoever calls it writes them.
//! Every error names the file: a class too small, a picture that does not decode, channels other than asked for, the
//! same picture or class in two splits.

mod augment;
mod decode;
pub mod iconify;
mod icons;
mod index;
mod prepare;
mod resize;
mod set;
mod svg;

pub use augment::augment;
pub use icons::icons;
pub use index::{Class, Index, Split};
pub use prepare::{Picture, fingerprint, prepare, read_picture};
pub use set::{Header, ImageSet, SplitHeader};
