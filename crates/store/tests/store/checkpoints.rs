use crate::{config, flip_byte, floats, le_bytes, save, spec, specs, store, tensor};
use isoflop_base::{
    Cost, Status, TensorError, TensorSink, TensorSource,
    tensor::{Dtype, TensorGroup},
};
use isoflop_store::{Checkpoint, RunView, StoreError};
use serde_json::{Value, json};
use std::{fs, path::Path};

#[test]
fn tensors_counters_and_state_come_back_bit_for_bit() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    save(&mut run, "step-40", 40, false);
    let mut checkpoint = run.open_checkpoint("step-40").unwrap();
    assert_eq!((checkpoint.position(), checkpoint.label()), (40, "step-40"));
    assert_eq!(checkpoint.state(), &json!({"segment": "trunk", "step": 40}));
    assert_eq!(checkpoint.config(), &config());
    assert_eq!((checkpoint.counter("step"), checkpoint.counter("other")), (Some(40), None));
    assert_eq!(checkpoint.tokenizer().unwrap(), None);

    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut wte = vec![0.0; 15];
    checkpoint.read_f32(TensorGroup::Model, "transformer.wte.weight", &[5, 3], &mut wte).unwrap();
    assert_eq!(bits(&wte), bits(&floats(40, 15)));
    checkpoint.read_f32(TensorGroup::Optimizer, "exp_avg.transformer.wte.weight", &[5, 3], &mut wte).unwrap();
    assert_eq!(bits(&wte), bits(&floats(42, 15)));
    let mut bytes = [0; 7];
    checkpoint.read_u8(TensorGroup::Optimizer, "exp_avg_sq.q", &[7], &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 40]);

    let shape = checkpoint.read_f32(TensorGroup::Model, "transformer.wte.weight", &[3, 5], &mut wte);
    assert!(matches!(shape, Err(TensorError::Shape { .. })));
    let missing = checkpoint.read_f32(TensorGroup::Model, "transformer.wpe.weight", &[5, 3], &mut wte);
    assert!(matches!(missing, Err(TensorError::Missing(_))));
}

#[test]
fn the_file_is_the_layout_the_format_asks_for() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    save(&mut run, "x", 1, false);
    let bytes = fs::read(run.dir().join("checkpoints/x/model.safetensors")).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(len % 8, 0);
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    assert_eq!(header["__metadata__"], json!({"format": "pt"}));
    assert_eq!(
        header["transformer.wte.weight"],
        json!({"dtype": "F32", "shape": [5, 3], "data_offsets": [0, 60]})
    );
    assert_eq!(
        header["transformer.ln_f.bias"],
        json!({"dtype": "F32", "shape": [3], "data_offsets": [60, 72]})
    );
    assert_eq!(bytes.len(), 8 + len + 72);
    assert_eq!(&bytes[8 + len..][..60], le_bytes(&floats(1, 15)));
}

#[test]
fn a_checkpoint_that_was_not_finished_is_invisible() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    let mut writer = run.begin_checkpoint("x", 1).unwrap();
    writer.begin(&specs()).unwrap();
    writer.write("transformer.wte.weight", &[0; 8]).unwrap();
    assert!(run.checkpoints().unwrap().complete.is_empty());
    let error = writer.finish(&Value::Null, &config()).unwrap_err().to_string();
    assert!(error.contains("`transformer.wte.weight` was not written in full"), "{error}");
    assert!(fs::read_dir(run.dir().join("checkpoints")).unwrap().next().is_none());

    // A process killed while writing leaves the staged directory; the next opening clears it.
    let staged = run.dir().join("checkpoints/.new-y");
    drop(run);
    fs::create_dir(&staged).unwrap();
    fs::write(staged.join("model.safetensors"), "half").unwrap();
    let run = store.create_or_open_run("a", &spec()).unwrap();
    assert!(!staged.exists());
    assert!(matches!(run.open_checkpoint("y"), Err(StoreError::NoSuchCheckpoint { .. })));
}

#[test]
fn the_newest_two_and_the_pinned_ones_are_kept() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    for position in 1..=5 {
        save(&mut run, &format!("step-{position}"), position, position == 2);
    }
    let labels = |run: &isoflop_store::Run| {
        run.checkpoints().unwrap().complete.iter().map(|c| c.label.clone()).collect::<Vec<_>>()
    };
    assert_eq!(labels(&run), ["step-5", "step-4", "step-2"]);
    save(&mut run, "step-5", 6, false);
    assert_eq!(run.open_checkpoint("step-5").unwrap().position(), 6);
    run.remove_checkpoint("step-2").unwrap();
    run.remove_checkpoint("step-2").unwrap();
    assert_eq!(labels(&run), ["step-5", "step-4"]);
}

/// As the training loop reads a checkpoint; it can go on from any that verifies.
fn state(_: &RunView, checkpoint: &Checkpoint) -> Result<Value, String> {
    Ok(checkpoint.state().clone())
}

#[test]
fn any_altered_or_missing_byte_falls_back_to_the_checkpoint_before() {
    // What is done to a file, given its bytes; `None` removes it.
    type Damage = fn(&mut Vec<u8>) -> Option<()>;
    let damages: [(&str, Damage); 5] = [
        ("altered at its beginning", |bytes| bytes.first_mut().map(|b| *b ^= 0x10)),
        ("altered in its middle", |bytes| {
            let middle = bytes.len() / 2;
            bytes.get_mut(middle).map(|b| *b ^= 0x10)
        }),
        ("altered at its end", |bytes| bytes.iter_mut().nth_back(1).map(|b| *b ^= 0x10)),
        ("truncated", |bytes| {
            bytes.truncate(bytes.len() - 3);
            Some(())
        }),
        ("removed", |_| None),
    ];
    for name in ["model.safetensors", "optimizer.safetensors", "state.json", "config.json", "MANIFEST.json"] {
        for (what, damage) in damages {
            let (_dir, store) = store();
            let mut run = store.create_or_open_run("a", &spec()).unwrap();
            save(&mut run, "old", 10, false);
            save(&mut run, "new", 20, false);
            let path = run.dir().join("checkpoints/new").join(name);
            let mut bytes = fs::read(&path).unwrap();
            match damage(&mut bytes) {
                Some(()) => fs::write(&path, &bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let resumed = run.resume(state).unwrap();
            let (checkpoint, read) = resumed.from.unwrap();
            assert_eq!(checkpoint.label(), "old", "{name} {what}");
            assert_eq!(read, json!({"segment": "trunk", "step": 10}), "{name} {what}");
            let labels: Vec<_> = resumed.passed_over.iter().map(|d| d.label.as_str()).collect();
            assert_eq!(labels, ["new"], "{name} {what}");
            assert!(resumed.passed_over[0].why.contains(name), "{}", resumed.passed_over[0].why);
            assert_eq!(resumed.cut_back.checkpoints, ["new"], "{name} {what}");
            assert_eq!(run.health().problems, [""; 0], "{name} {what}: the damaged one is set aside");
        }
    }
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    save(&mut run, "old", 10, false);
    save(&mut run, "new", 20, false);
    let resumed = run.resume(state).unwrap();
    assert_eq!(resumed.from.unwrap().0.label(), "new", "undamaged, it is taken");
    assert!(resumed.passed_over.is_empty());
}

#[test]
fn resuming_sets_a_damaged_checkpoint_aside_and_says_so() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    save(&mut run, "old", 10, false);
    save(&mut run, "new", 20, false);
    flip_byte(&run.dir().join("checkpoints/new/model.safetensors"), 250);
    assert_eq!(run.health().problems.len(), 1);
    let resumed = run.resume(state).unwrap();
    assert!(
        resumed.passed_over[0].why.contains("model.safetensors was altered"),
        "{:?}",
        resumed.passed_over
    );
    assert_eq!(resumed.from.unwrap().0.label(), "old");
    assert_eq!(resumed.cut_back.checkpoints, ["new"]);
    assert!(run.dir().join("attempts/1/checkpoints/new/model.safetensors").exists());
}

#[test]
fn a_checkpoint_that_needs_another_one_falls_with_it() {
    // The loop goes back to a fork after a branch: a checkpoint of the branch is of no use without its fork.
    let with_fork = |view: &RunView, checkpoint: &Checkpoint| match checkpoint.label() {
        "in-branch" => view.open_checkpoint("fork").map(|_| 2).map_err(|e| format!("its fork: {e}")),
        _ => Ok(1),
    };
    for (what, from, passed_over) in
        [("sound", "in-branch", &[][..]), ("damaged", "start", &["in-branch", "fork"])]
    {
        let (_dir, store) = store();
        let mut run = store.create_or_open_run("a", &spec()).unwrap();
        save(&mut run, "start", 10, false);
        save(&mut run, "fork", 20, true);
        save(&mut run, "in-branch", 30, false);
        if what == "damaged" {
            flip_byte(&run.dir().join("checkpoints/fork/model.safetensors"), 250);
        }
        let resumed = run.resume(with_fork).unwrap();
        assert_eq!(resumed.from.unwrap().0.label(), from, "{what}");
        let labels: Vec<_> = resumed.passed_over.iter().map(|d| d.label.as_str()).collect();
        assert_eq!(labels, passed_over, "{what}");
    }
}

#[test]
fn what_training_cost_is_read_without_hashing_a_checkpoint() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    assert_eq!(run.cost().unwrap(), None);
    // As stores were written before the cost stood in status.json: it is in the state of the newest checkpoint.
    run.set_status(Status::Running).unwrap();
    let older = json!({"total_cost": {"seconds": 1.25, "joules": null}, "step": 4});
    crate::save_state(&mut run, "old", 10, true, &older);
    let newer = json!({"total_cost": {"seconds": 2.5, "joules": 7.0}, "step": 8});
    crate::save_state(&mut run, "new", 20, true, &newer);
    let newest = Cost { seconds: 2.5, joules: Some(7.0), estimated: false };
    // A tensor's byte altered: opening would refuse it, and the list of runs must not even notice.
    let damaged = run.dir().join("checkpoints/new/model.safetensors");
    flip_byte(&damaged, 250);
    assert!(matches!(run.open_checkpoint("new"), Err(StoreError::DamagedCheckpoint { .. })));
    assert_eq!(run.cost().unwrap(), Some(newest));
    let listed = store.list().unwrap();
    assert_eq!((listed.runs[0].cost, listed.notes.len()), (Some(newest), 0));
    assert_eq!(store.collect().unwrap().runs[0].cost, Some(newest));

    // Once it is noted, no checkpoint is looked at.
    let noted = Cost { seconds: 3.5, joules: None, estimated: false };
    run.set_cost(noted).unwrap();
    fs::remove_file(damaged).unwrap();
    run.set_status(Status::Done).unwrap();
    assert_eq!((run.cost().unwrap(), run.status().unwrap()), (Some(noted), Status::Done));
    drop(run);
    let run = store.create_or_open_run("a", &spec()).unwrap();
    assert_eq!((run.cost().unwrap(), run.status().unwrap()), (Some(noted), Status::Done));
    assert_eq!(store.list().unwrap().runs[0].cost, Some(noted));
}

/// A directory as another program leaves it.
fn foreign(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn safetensors(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

#[test]
fn directories_of_transformers_open_without_manifest_optimiser_or_prefix() {
    let json = concat!(
        r#"{"__metadata__":{"format":"pt"},"wte.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#,
        r#""h.0.attn.bias":{"dtype":"BOOL","shape":[1,1],"data_offsets":[8,9]},"#,
        r#""lm_head.weight":{"dtype":"F16","shape":[2],"data_offsets":[9,13]}}"#
    );
    let data = [&1.25f32.to_le_bytes()[..], &(-3f32).to_le_bytes(), &[1], &[0, 0x3c, 0, 0x40]].concat();
    let dir = foreign(&[
        ("config.json", br#"{"model_type":"gpt2"}"#),
        ("model.safetensors", &safetensors(json, &data)),
        ("state.json", b"not ours"),
        ("tokenizer.json", b"{}"),
    ]);
    let mut checkpoint = Checkpoint::open_dir(dir.path()).unwrap();
    assert_eq!((checkpoint.state(), checkpoint.position()), (&Value::Null, 0));
    assert_eq!(checkpoint.label(), dir.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(checkpoint.tokenizer().unwrap().as_deref(), Some("{}"));
    assert!(checkpoint.has(TensorGroup::Model, "transformer.wte.weight"));
    assert!(!checkpoint.has(TensorGroup::Optimizer, "exp_avg.transformer.wte.weight"));
    let mut wte = [0.0; 2];
    checkpoint.read_f32(TensorGroup::Model, "transformer.wte.weight", &[2], &mut wte).unwrap();
    assert_eq!(wte, [1.25, -3.0]);
    checkpoint.read_f32(TensorGroup::Model, "lm_head.weight", &[2], &mut wte).unwrap();
    assert_eq!(wte, [1.0, 2.0]);
    let error = checkpoint
        .read_f32(TensorGroup::Model, "transformer.h.0.attn.bias", &[1, 1], &mut [0.0])
        .unwrap_err()
        .to_string();
    assert!(error.contains("BOOL"), "{error}");
}

#[test]
fn wrappers_of_training_programs_are_taken_off_names() {
    let model = |names: &[&str]| {
        let entry = |(i, n): (usize, &&str)| {
            let (begin, end) = (4 * i, 4 * i + 4);
            format!(r#""{n}":{{"dtype":"F32","shape":[1],"data_offsets":[{begin},{end}]}}"#)
        };
        let json = format!("{{{}}}", names.iter().enumerate().map(entry).collect::<Vec<_>>().join(","));
        let data: Vec<u8> = (0..names.len()).flat_map(|i| (i as f32 + 1.5).to_le_bytes()).collect();
        foreign(&[("config.json", b"{}"), ("model.safetensors", &safetensors(&json, &data))])
    };
    for wrapper in ["module.", "_orig_mod.", "model._orig_mod.module.", "transformer.", ""] {
        let names = [format!("{wrapper}wte.weight"), format!("{wrapper}transformer.h.0.ln_1.weight")];
        let dir = model(&[&names[0], &names[1]]);
        let mut checkpoint = Checkpoint::open_dir(dir.path()).unwrap();
        let mut x = [0.0];
        for (name, value) in [("transformer.wte.weight", 1.5), ("transformer.h.0.ln_1.weight", 2.5)] {
            checkpoint.read_f32(TensorGroup::Model, name, &[1], &mut x).unwrap();
            assert_eq!(x, [value], "{wrapper}{name}");
        }
        assert!(!checkpoint.has(TensorGroup::Model, "transformer.wpe.weight"));
    }
    check_refused(model(&["wte.weight", "module.wte.weight"]).path(), "holds the model twice");
}

#[test]
fn a_model_in_parts_opens() {
    let part = |name: &str, x: f32| {
        safetensors(
            &format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#),
            &x.to_le_bytes(),
        )
    };
    let index =
        br#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let dir = foreign(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", &part("a", 1.0)),
        ("model-00002-of-00002.safetensors", &part("b", 2.0)),
    ]);
    let mut checkpoint = Checkpoint::open_dir(dir.path()).unwrap();
    assert!(checkpoint.has(TensorGroup::Model, "a") && !checkpoint.has(TensorGroup::Model, "c"));
    let mut x = [0.0];
    checkpoint.read_f32(TensorGroup::Model, "b", &[1], &mut x).unwrap();
    assert_eq!(x, [2.0]);
    fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    let error = Checkpoint::open_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains("model-00002-of-00002.safetensors"), "{error}");
}

fn check_refused(dir: &Path, expected: &str) {
    let error = Checkpoint::open_dir(dir).unwrap_err().to_string();
    assert!(error.contains(expected) && error.contains("hint: "), "{error}");
}

#[test]
fn what_is_no_checkpoint_is_refused_with_a_hint() {
    let empty = safetensors("{}", &[]);
    let dir = foreign(&[]);
    check_refused(&dir.path().join("nowhere"), "it does not exist");
    check_refused(dir.path(), "it has no model.safetensors");
    check_refused(foreign(&[("model.safetensors", &empty)]).path(), "it has no config.json");
    let pickle = foreign(&[("config.json", b"{}"), ("pytorch_model.bin", b"x")]);
    check_refused(pickle.path(), "pickle (pytorch_model.bin)");
    let llama = foreign(&[("config.json", br#"{"model_type":"llama"}"#), ("model.safetensors", &empty)]);
    check_refused(llama.path(), "model_type is `llama`");
    let cut = foreign(&[("config.json", b"{}"), ("model.safetensors", &empty[..9])]);
    check_refused(cut.path(), "model.safetensors: its header");
    let json = foreign(&[("config.json", b"{"), ("model.safetensors", &empty)]);
    check_refused(json.path(), "config.json: it does not parse");
    check_refused(&json.path().join("config.json"), "it is a file");
}

#[test]
fn a_variant_of_gpt2_is_opened_for_the_engine_to_judge() {
    let config = br#"{"tie_word_embeddings":false,"activation_function":"gelu"}"#;
    let untied = foreign(&[("config.json", config), ("model.safetensors", &safetensors("{}", &[]))]);
    let opened = Checkpoint::open_dir(untied.path()).unwrap();
    assert_eq!(opened.config()["tie_word_embeddings"], false);
}

#[test]
#[should_panic(expected = "comes out of order")]
fn tensors_out_of_order_are_our_mistake() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    let mut writer = run.begin_checkpoint("x", 1).unwrap();
    let two = ["a", "b"].map(|n| tensor(n, TensorGroup::Model, Dtype::F32, &[1]));
    writer.begin(&two).unwrap();
    let _ = writer.write("b", &[0; 4]);
}
