//! What TensorBoard's plugins of hyper-parameters and of text read: tensors with metadata that name the plugin
//! (`tensorboard/plugins/hparams/plugin_data.proto`, `tensorboard/plugins/text/plugin_data.proto`,
//! `tensorflow/core/framework/summary.proto`).

use super::wire::Message;
use isoflop_base::Status;
use serde_json::Value;
use std::time::Duration;

/// `DT_FLOAT` and `DT_STRING` of `types.proto`.
const FLOAT: u64 = 1;
const STRING: u64 = 7;
/// `DATA_CLASS_TENSOR` of `summary.proto`.
const TENSOR: u64 = 2;
/// `STATUS_SUCCESS`, `STATUS_FAILURE`, `STATUS_RUNNING` of the hparams plugin's `api.proto`.
const SUCCESS: u64 = 1;
const FAILURE: u64 = 2;
const RUNNING: u64 = 3;

/// `HParamsPluginData { session_start_info = 3 { hparams = 1 { key = 1, value = 2 } …, start_time_secs = 5 } }`.
pub(super) fn session_start(now: Duration, spec: &Value) -> Vec<u8> {
    let mut settings = Vec::new();
    let run = spec.get("run").unwrap_or(spec);
    flatten(run, "", &mut settings);
    let mut info = Message::default();
    for (name, value) in settings {
        let mut entry = Message::default();
        entry.bytes(1, name.as_bytes());
        entry.bytes(2, &value.0);
        info.bytes(1, &entry.0);
    }
    info.double(5, now.as_secs_f64());
    hparams(now, "_hparams_/session_start_info", 3, &info)
}

/// `HParamsPluginData { session_end_info = 4 { status = 1, end_time_secs = 2 } }`.
pub(super) fn session_end(now: Duration, status: &Status) -> Vec<u8> {
    let mut info = Message::default();
    info.integer(
        1,
        match status {
            Status::Done => SUCCESS,
            Status::Running => RUNNING,
            Status::Diverged { .. } | Status::Stopped { .. } | Status::Failed { .. } => FAILURE,
        },
    );
    info.double(2, now.as_secs_f64());
    hparams(now, "_hparams_/session_end_info", 4, &info)
}

/// A document as text, for the plugin that shows Markdown.
pub(super) fn text(now: Duration, tag: &str, document: &Value) -> Vec<u8> {
    let json = serde_json::to_string_pretty(document).expect("JSON values are plain data");
    let mut tensor = Message::default();
    tensor.integer(1, STRING);
    tensor.bytes(2, &shape_of_one());
    tensor.bytes(8, format!("```json\n{json}\n```").as_bytes());
    summary(now, tag, "text", &[], &tensor)
}

fn hparams(now: Duration, tag: &str, field: u64, info: &Message) -> Vec<u8> {
    let mut data = Message::default();
    data.bytes(field, &info.0);
    // The plugin reads the metadata alone, but a summary without a tensor is dropped on the way.
    let mut nothing = Message::default();
    nothing.integer(1, FLOAT);
    nothing.bytes(2, &shape_of_one());
    nothing.bytes(5, &0f32.to_le_bytes());
    summary(now, tag, "hparams", &data.0, &nothing)
}

/// `TensorShapeProto { dim = 2 { size = 1 } }` of one element.
fn shape_of_one() -> Vec<u8> {
    let (mut dim, mut shape) = (Message::default(), Message::default());
    dim.integer(1, 1);
    shape.bytes(2, &dim.0);
    shape.0
}

/// `Event { wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, tensor = 8, metadata = 9 { plugin_data = 1 {
/// plugin_name = 1, content = 2 }, data_class = 4 } } } }`.
fn summary(now: Duration, tag: &str, plugin: &str, content: &[u8], tensor: &Message) -> Vec<u8> {
    let (mut data, mut metadata) = (Message::default(), Message::default());
    data.bytes(1, plugin.as_bytes());
    data.bytes(2, content);
    metadata.bytes(1, &data.0);
    metadata.integer(4, TENSOR);
    let (mut value, mut summary, mut event) = (Message::default(), Message::default(), Message::default());
    value.bytes(1, tag.as_bytes());
    value.bytes(8, &tensor.0);
    value.bytes(9, &metadata.0);
    summary.bytes(1, &value.0);
    event.double(1, now.as_secs_f64());
    event.integer(2, 0);
    event.bytes(5, &summary.0);
    event.0
}

/// The leaves of a document that are numbers, words or flags, by dotted names, as `google.protobuf.Value { number = 2,
/// string = 3, bool = 4 }`.
fn flatten(value: &Value, name: &str, settings: &mut Vec<(String, Message)>) {
    let mut leaf = Message::default();
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(member, &name, settings);
            }
            return;
        }
        Value::Number(n) => leaf.double(2, n.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => leaf.bytes(3, text.as_bytes()),
        Value::Bool(flag) => leaf.integer(4, u64::from(*flag)),
        Value::Array(_) | Value::Null => return,
    }
    settings.push((name.to_owned(), leaf));
}
