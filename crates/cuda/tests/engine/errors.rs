//! Every call of the driver that can fail, failing: an error that names the call and what the driver said, and never a
//! panic. And cards that nothing can be trained on.

use crate::Emulated;
use crate::memory::Memory;
use crate::numbers::{batch, config, options};
use isoflop_cuda::{CardError, Cuda};
use isoflop_nn::{Device, Engine, Precision};

/// A code no call is expected to give, and that does not mean a lost card.
const CODE: i32 = 801;

fn check_error(error: &str, call: &str) {
    for part in [format!("{call} failed"), format!("({CODE})")] {
        assert!(error.contains(&part), "`{part}` is not in: {error}");
    }
}

#[test]
fn a_driver_that_does_not_answer_says_which_call_it_was() {
    let Some(emulated) = Emulated::with(2) else { return };
    for call in
        ["cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceTotalMem_v2"]
    {
        emulated.emulator().fail(call, 0, CODE);
        check_error(&emulated.driver.cards().unwrap_err().to_string(), call);
    }
    emulated.emulator().fail("cuDriverGetVersion", 0, CODE);
    check_error(&emulated.driver.version().unwrap_err().to_string(), "cuDriverGetVersion");
    assert_eq!(emulated.driver.version().unwrap().0, 12);
}

#[test]
fn an_engine_that_cannot_be_made_says_which_call_it_was_and_gives_everything_back() {
    let Some(emulated) = Emulated::with(2) else { return };
    let (config, options) = (config("L1-d48-h3"), options(Precision::Bf16, 2));
    for call in [
        "cuDevicePrimaryCtxRetain",
        "cuCtxSetCurrent",
        "cuMemGetInfo_v2",
        "cuModuleLoadDataEx",
        "cuModuleGetFunction",
        "cuMemAlloc_v2",
        "cuMemHostAlloc",
        "cuStreamCreate",
        "cuMemsetD8Async",
        "cuMemcpyHtoD_v2",
        "cuStreamSynchronize",
        "cuLaunchKernel",
        "cuDeviceCanAccessPeer",
    ] {
        emulated.emulator().fail(call, 0, CODE);
        let error = emulated.cards(2).make(&config, &options, 1).err();
        check_error(&error.unwrap_or_else(|| panic!("{call} was not called")).to_string(), call);
        assert_eq!(emulated.emulator().allocated(0), 0, "{call}: memory is given back");
        assert_eq!(emulated.emulator().allocated(1), 0, "{call}: memory is given back");
    }
    emulated.cards(2).make(&config, &options, 1).unwrap();
}

#[test]
fn a_step_that_fails_says_which_call_it_was_and_the_next_engine_goes_on() {
    let Some(emulated) = Emulated::with(2) else { return };
    let (config, options) = (config("L1-d48-h3"), options(Precision::F32, 2));
    for call in [
        "cuLaunchKernel",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuEventCreate",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuStreamWaitEvent",
        "cuMemsetD8Async",
    ] {
        let mut engine = emulated.cards(2).make(&config, &options, 1).unwrap();
        emulated.emulator().fail(call, 0, CODE);
        let error =
            engine.accumulate(&batch(0, 2, 40), 1.0).and_then(|()| engine.update(1e-3).map(|_| ())).err();
        check_error(&error.unwrap_or_else(|| panic!("{call} was not called")).to_string(), call);
    }
    let mut engine = emulated.cards(2).make(&config, &options, 1).unwrap();
    emulated.emulator().fail("cuStreamSynchronize", 0, CODE);
    check_error(&engine.save(&mut Memory::default()).unwrap_err().to_string(), "cuStreamSynchronize");
    engine.accumulate(&batch(0, 2, 40), 1.0).unwrap();
    engine.update(1e-3).unwrap();
}

#[test]
fn cards_that_cannot_train_are_refused_with_the_reason() {
    let Some(emulated) = Emulated::with(2) else { return };
    let cards = |numbers: &[u32]| Cuda::new(emulated.driver.clone(), numbers).unwrap_err();
    assert!(matches!(cards(&[2]), CardError::Number { number: 2, count: 2 }));
    assert!(matches!(cards(&[0, 0]), CardError::Count(2)));
    assert!(matches!(cards(&[]), CardError::Count(0)));
    emulated.emulator().set_capability(75);
    let old = cards(&[0]);
    assert!(
        matches!(old, CardError::Old { found: (7, 5), .. }) && old.to_string().contains("hint:"),
        "{old}"
    );
    emulated.emulator().set_cards(0);
    assert_eq!(cards(&[0]), CardError::None);
}

/// Images of each generation are looked at by the emulated driver as by a real one: whether they are for such a card,
/// and hold the kernels that are asked for.
#[test]
fn every_generation_of_cards_gets_an_image_that_it_takes() {
    let Some(emulated) = Emulated::with(1) else { return };
    for capability in [80, 86, 87, 89, 90, 100, 120] {
        emulated.emulator().set_capability(capability);
        for precision in [Precision::F32, Precision::Bf16, Precision::Fp16] {
            let made = emulated.cards(1).make(&config("L1-d48-h3"), &options(precision, 1), 1);
            assert!(made.is_ok(), "{capability}, {precision:?}: {}", made.unwrap_err());
        }
    }
}
