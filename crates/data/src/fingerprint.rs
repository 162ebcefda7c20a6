//! Hashes as they are stored with runs: SHA-256 in hexadecimal.

use isoflop_base::bits::hex;
use sha2::{Digest, Sha256};

/// SHA-256 of the bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
