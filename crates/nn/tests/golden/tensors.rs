//! Reading committed tensors.

use std::collections::HashMap;

/// All tensors of a safetensors file, widened to f64.
pub(crate) fn parse(bytes: &[u8]) -> HashMap<String, Vec<f64>> {
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    let data = &bytes[8 + header_len..];
    let mut tensors = HashMap::new();
    for (name, entry) in header.as_object().unwrap() {
        if name == "__metadata__" {
            continue;
        }
        let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
        let data = &data[at(0)..at(1)];
        let four = |f: fn([u8; 4]) -> f64| data.chunks_exact(4).map(|b| f(b.try_into().unwrap())).collect();
        let values: Vec<f64> = match entry["dtype"].as_str().unwrap() {
            "F32" => four(|b| f64::from(f32::from_le_bytes(b))),
            "I32" => four(|b| f64::from(i32::from_le_bytes(b))),
            "F64" => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            other => panic!("{name} is {other}"),
        };
        tensors.insert(name.clone(), values);
    }
    tensors
}
