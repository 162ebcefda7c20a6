//! Files as they are found: links, pipes, devices, leftovers of killed processes, full disks.

use super::*;

#[test]
fn a_replaced_file_leaves_no_sibling() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/law.json");
    replace_file(&path, b"one").unwrap();
    replace_file(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(names(path.parent().unwrap()).unwrap(), ["law.json"]);
}

#[cfg(unix)]
#[test]
fn an_output_goes_into_what_is_there() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = |name: &str| fs::read_to_string(at(name)).unwrap();
    // A plain file keeps its mode; a second name of it stays one.
    fs::write(at("plain"), "old").unwrap();
    fs::set_permissions(at("plain"), fs::Permissions::from_mode(0o600)).unwrap();
    write_output(&at("plain"), b"new").unwrap();
    assert_eq!((text("plain").as_str(), fs::metadata(at("plain")).unwrap().mode() & 0o777), ("new", 0o600));
    fs::hard_link(at("plain"), at("second")).unwrap();
    write_output(&at("second"), b"2").unwrap();
    assert_eq!((text("plain"), fs::metadata(at("plain")).unwrap().nlink()), ("2".to_owned(), 2));
    // Links are followed, through other links and to what is not there yet.
    symlink("plain", at("link")).unwrap();
    symlink("link", at("chain")).unwrap();
    symlink("later/file", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    write_output(&at("chain"), b"3").unwrap();
    write_output(&at("dangling"), b"4").unwrap();
    assert_eq!((text("plain"), text("later/file")), ("3".to_owned(), "4".to_owned()));
    for name in ["link", "chain", "dangling"] {
        assert!(fs::symlink_metadata(at(name)).unwrap().is_symlink(), "{name}");
    }
    write_output(&at("loop"), b"").unwrap_err();
    // A directory is none, nor is a name that ends as one.
    fs::create_dir(at("d")).unwrap();
    for name in ["d", "e/"] {
        let error = write_output(&at(name), b"").unwrap_err().to_string();
        assert!(error.contains("hint: a directory stands"), "{error}");
    }
    assert!(names(dir.path()).unwrap().iter().all(|n| !n.ends_with(".tmp")));
}

#[cfg(unix)]
#[test]
fn a_device_or_a_pipe_stays_what_it_is() {
    use std::os::unix::fs::FileTypeExt;
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    write_output(&pipe, b"through").unwrap();
    assert_eq!(reader.join().unwrap(), "through");
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    // By way of links, so that a fault here costs no device of the machine.
    for (device, fits) in [("/dev/null", true), ("/dev/full", false)] {
        let link = dir.path().join(device.replace('/', "-"));
        if !Path::new(device).exists() {
            continue;
        }
        std::os::unix::fs::symlink(device, &link).unwrap();
        assert_eq!(write_output(&link, b"x").is_ok(), fits, "{device}");
        assert!(fs::metadata(device).unwrap().file_type().is_char_device(), "{device}");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}

#[test]
fn a_file_in_the_place_of_a_directory_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "a file").unwrap();
    let error = replace_file(&dir.path().join("a/b.json"), b"").unwrap_err().to_string();
    assert!(error.contains("hint: a file stands where a directory is needed"), "{error}");
    fs::create_dir(dir.path().join("d")).unwrap();
    let error = replace_file(&dir.path().join("d"), b"").unwrap_err().to_string();
    assert!(error.contains("hint: a directory stands where a file is needed"), "{error}");
    assert_eq!(names(dir.path()).unwrap(), ["a", "d"]);
}

#[test]
fn an_append_that_fails_leaves_the_file_as_it_was() {
    // /dev/full answers every write with "no space left on device".
    if !Path::new("/dev/full").exists() {
        return;
    }
    let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut log = Appender { path: "/dev/full".into(), file, len: 0, broken: false };
    let error = log.append(b"record\n").unwrap_err();
    assert!(error.to_string().contains("hint: the disk is full"), "{error}");
    assert_eq!(log.len, 0);
    // A device cannot be cut back, so the log refuses to grow after half a record.
    assert!(log.broken);
    assert!(log.append(b"record\n").unwrap_err().to_string().contains("earlier record"));
}

#[test]
fn a_directory_appears_only_with_its_marker() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let staged = StagedDirectory::begin(at, "x").unwrap();
    staged.create_file("data").unwrap().write_all(b"1").unwrap();
    assert!(!at.join("x").exists());
    drop(staged);
    assert!(names(at).unwrap().is_empty());

    let staged = StagedDirectory::begin(at, "x").unwrap();
    staged.publish("MARK", b"").unwrap();
    assert_eq!(names(at).unwrap(), ["x"]);
}

#[test]
fn the_sweep_finishes_or_undoes_what_a_killed_process_began() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    for d in [".new-half", ".new-whole", ".new-second", ".gone-old-7", "second"] {
        fs::create_dir(at.join(d)).unwrap();
    }
    fs::write(at.join(".new-whole/MARK"), "").unwrap();
    fs::write(at.join(".new-second/MARK"), "").unwrap();
    fs::write(at.join(".status.json.7-0.tmp"), "{").unwrap();
    fs::write(at.join("kept"), "").unwrap();
    sweep(at, "MARK").unwrap();
    assert_eq!(names(at).unwrap(), ["kept", "second", "whole"]);
}

#[test]
fn a_lock_is_exclusive_and_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let held = take_lock(&path).ok().unwrap();
    match take_lock(&path) {
        Err(LockFailure::Held(holder)) => {
            assert_eq!(holder.pid, Some(std::process::id()));
            assert!(holder.since_unix_s.is_some());
        }
        _ => panic!("a second lock was given out"),
    }
    drop(held);
    assert!(take_lock(&path).is_ok());
}
